"""Nested state in one file, without pickling: tensors as safetensors, all else as JSON in the file's header.

`torch.save` pickles. What reads such a file back may be told to make nothing but tensors and plain containers
(`weights_only`), but that guard is a list of exceptions in the reader; here there is nothing in the file that could
be run. What cannot be written so, is no state that a training should hang on.
"""

import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from betahead.errors import BetaHeadError, ConfigError, DataError

_TREE = "tree"
_PLAIN = (bool, int, float, str, type(None))
_STUMBLES = (
    *(OSError, SafetensorError, RuntimeError, ValueError, LookupError, TypeError, AttributeError),
    ArithmeticError,
)


def write_tree(path: Path, tree: Any, *, key: str = "state") -> None:
    """Write dicts, lists and tuples of tensors, arrays, numbers and texts; the file is not synced.

    Args:
        path: the file, whose name ends in `.safetensors`.
        tree: the state; keys of dicts are texts or whole numbers.
        key: what the state belongs to, for the message.

    Raises:
        ConfigError: for anything else, with where it is.
    """
    tensors: dict[str, Tensor] = {}
    described = _written(tree, tensors, key)
    # A single entry: of several, safetensors writes another one first in every process.
    save_file(tensors, path, metadata={_TREE: json.dumps(described)})
    path.chmod(0o644)  # `save_file` lets nobody but the owner read, whatever the umask says


def read_tree(path: Path) -> Any:
    """What `write_tree` wrote, to the last bit, with its tensors on the CPU.

    Raises:
        DataError: for a file that is missing or something else.
    """
    with state_of(path), safe_open(path, framework="pt", device="cpu") as file:
        described = json.loads(file.metadata()[_TREE])
        return _read(described, cast("Any", file).get_tensor)


@contextmanager
def state_of(path: Path) -> Generator[None]:
    """The reading of a file, and the taking up of what it holds: whatever that stumbles over is the file's fault.

    Raises:
        DataError: in place of what a file of another content makes Python and the libraries say.
    """
    try:
        yield
    except (BetaHeadError, torch.OutOfMemoryError):
        raise
    except _STUMBLES as error:
        sentence = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(
            f"`{path}` must hold the state of a training, but cannot be read ({sentence}); resume from another "
            "checkpoint."
        ) from error


def _written(value: Any, tensors: dict[str, Tensor], key: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor | np.ndarray):
        array, name = isinstance(value, np.ndarray), str(len(tensors))
        tensor: Tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        tensors[name] = _apart(tensor.detach().cpu().contiguous(), tensors)
        return {"array" if array else "tensor": name}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {"dict": [[_checked(k, key), _written(v, tensors, f"{key}.{k}")] for k, v in items]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        children = enumerate(cast("Iterable[Any]", value))
        return {kind: [_written(item, tensors, f"{key}[{i}]") for i, item in children]}
    raise ConfigError(
        f"`{key}` must be made of tensors, numbers and texts to be kept in a checkpoint, but is a "
        f"{type(value).__name__} instead; use another optimizer or schedule, or `save_only_model`."
    )


def _apart(tensor: Tensor, others: Mapping[str, Tensor]) -> Tensor:
    """The tensor, copied if it shares memory with others, which safetensors refuses."""
    storage = tensor.untyped_storage()
    whole = storage.nbytes() == tensor.nbytes
    mine = whole and all(storage.data_ptr() != other.untyped_storage().data_ptr() for other in others.values())
    return tensor if mine or tensor.numel() == 0 else tensor.clone()


def _checked(name: Any, key: str) -> str | int:
    if isinstance(name, str | int) and not isinstance(name, bool):
        return name
    raise ConfigError(
        f"`{key}` must have texts or whole numbers as keys to be kept in a checkpoint, but has {name!r} instead; use "
        "another optimizer or schedule, or `save_only_model`."
    )


def _read(described: Any, tensor: Any) -> Any:
    if isinstance(described, _PLAIN):
        return described
    ((kind, content),) = cast("dict[str, Any]", described).items()
    if kind == "tensor":
        return tensor(content)
    if kind == "array":
        return tensor(content).numpy()
    if kind == "dict":
        return {name: _read(value, tensor) for name, value in content}
    items = [_read(value, tensor) for value in content]
    return tuple(items) if kind == "tuple" else items
