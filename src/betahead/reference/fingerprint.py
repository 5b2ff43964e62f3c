"""What makes a reference the same reference: a digest of its weights, its config and the precision it computes in.

It changes with anything that changes a score: one bit of a weight or of a persistent buffer, a name, shape or dtype of
them, the model's class, a setting of its config (rope, window, softcap, scales …), autocast and TF32.

It does not change with what leaves the scores alone: adapters that are turned off (a PEFT-wrapped model has the
fingerprint of the model under it), wrappers of compilation, device, training mode, dropout (scores are taken in
evaluation mode), special tokens, where the model was loaded from and by which version. Learning rate, seed, epochs,
order, batch size, output folder and the road of the forward are no property of a reference and are not looked at.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from betahead.errors import CacheError
from betahead.reference.frozen import FrozenReference

SCORES_VERSION = 1
"""Raised when the definition of a score changes; older scores are then not found."""

_CHUNK = 1 << 26
# Modules that stand around another one and add a name of their own, which the state of the inner one does not have.
_TRANSPARENT = frozenset({"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"})
_NO_NUMBERS = frozenset(
    {
        "architectures",
        "attn_implementation",
        "auto_map",
        "base_model_name_or_path",
        "dtype",  # of the weights, each of which says its own
        "experts_implementation",
        "id2label",
        "inference_mode",
        "initializer_range",
        "label2id",
        "name_or_path",
        "output_attentions",
        "output_hidden_states",
        "peft_version",
        "return_dict",
        "revision",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


def reference_fingerprint(reference: FrozenReference, device: torch.device) -> str:
    """32 hexadecimal digits that stand for everything of a reference that its scores depend on.

    To be called in the same autocast context that the scores are taken in. Weights are read where they are, in pieces
    of 64 MiB, several at a time: no second copy, about a second for each gigabyte.

    Args:
        reference: its model, with adapters off or on.
        device: where it computes; only whether TF32 applies there is read.

    Raises:
        CacheError: weights that this process does not hold as plain tensors.
    """
    model = reference.model
    digest = hashlib.blake2b(digest_size=16, person=b"reference")
    off = cast("PeftModel", model).disable_adapter() if reference.adapters_off else nullcontext()
    with off:
        inner: Any = _bare(model)
        if isinstance(inner, PeftModel) and not reference.adapters_off:
            adapters = {name: config.to_dict() for name, config in inner.peft_config.items()}
            digest.update(_canonical([sorted(inner.active_adapters), adapters]))
            named, inner = _named_state(inner, adapters=True), inner.get_base_model()
        else:
            inner = inner.get_base_model() if isinstance(inner, PeftModel) else inner
            named = _named_state(inner, adapters=False)
        digest.update(_canonical([SCORES_VERSION, type(inner).__qualname__, _precision(device)]))
        digest.update(_canonical(inner.config.to_dict() if hasattr(inner, "config") else {}))
        unique = {id(value): (name, value) for name, value in sorted(named, key=lambda item: item[0], reverse=True)}
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for part in pool.map(_state_digest, sorted(unique.values(), key=lambda item: item[0])):
                digest.update(part)
    return digest.hexdigest()


def learns(reference: FrozenReference) -> bool:
    """Whether training changes weights that the reference is scored with."""
    tensors = _named_state(_bare(reference.model), adapters=not reference.adapters_off)
    return any(isinstance(value, Tensor) and value.requires_grad for _, value in tensors)


def frozen_marks(reference: FrozenReference) -> list[tuple[int, int]]:
    """Where the weights and buffers that do not learn are, and how often they were written to: quickly told.

    Equal marks speak for equal numbers; others speak for nothing, since weights may be moved and stay what they are.
    """
    tensors = [*reference.model.parameters(), *reference.model.buffers()]
    frozen = (tensor for tensor in tensors if not tensor.requires_grad)
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in frozen]


def _bare(model: Any) -> Any:
    while hasattr(model, "_orig_mod"):
        model = model._orig_mod
    return model


def _named_state(module: nn.Module, *, adapters: bool, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters, persistent buffers and extra state by name; without adapters, by the names of the model under them.

    Raises:
        CacheError: adapters that were to be left out, but have been merged into the weights.
    """
    if isinstance(module, PeftModel) and not adapters:
        module = module.get_base_model()
    if not adapters and isinstance(module, BaseTunerLayer):
        if module.merged:
            raise CacheError(
                f"the reference's adapters must be apart from its weights, but those of `{prefix.rstrip('.')}` are "
                "merged instead; call `unmerge_adapter()` first."
            )
        yield from _named_state(cast("Any", module).base_layer, adapters=adapters, prefix=prefix)
        return
    if not adapters and isinstance(module, AuxiliaryTrainingWrapper):
        yield from _named_state(cast("Any", module).original_module, adapters=adapters, prefix=prefix)
        return
    own: dict[str, Any] = {}
    # The module's own part of a state dict: quantized layers add what their packed weights mean.
    module._save_to_state_dict(own, prefix, keep_vars=True)
    yield from own.items()
    for name, child in module.named_children():
        inner = prefix if name in _TRANSPARENT else f"{prefix}{name}."
        yield from _named_state(child, adapters=adapters, prefix=inner)


def _state_digest(item: tuple[str, Any]) -> bytes:
    name, value = item
    # SHA-256 has instructions of its own on most processors: twice as fast as BLAKE2 on what is gigabytes.
    if not isinstance(value, Tensor):
        return hashlib.sha256(_canonical([name, value])).digest()
    _check_plain(name, value)
    digest = hashlib.sha256(f"{name}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
    content = value.detach().contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, content.numel(), _CHUNK):
        digest.update(content[start : start + _CHUNK].cpu().numpy().data)
    return digest.digest()


def _check_plain(name: str, value: Tensor) -> None:
    found = None
    if value.device.type == "meta":
        found = "has not been loaded"
    elif hasattr(value, "ds_id"):
        found = "is split over processes by DeepSpeed"
    elif hasattr(value, "__tensor_flatten__"):
        found = f"is a {type(value).__name__}"
    if found is not None:
        raise CacheError(
            f"a reference with a cache must have weights that this process holds as plain tensors, but `{name}` "
            f"{found} instead; score it at every step (`reference.cache: live`)."
        )


def _precision(device: torch.device) -> list[str]:
    """What besides the dtype of the weights decides how precisely a pass computes."""
    kind = device.type
    autocast = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else "none"
    return [autocast, "tf32" if kind == "cuda" and _uses_tf32() else "ieee"]


def _uses_tf32() -> bool:
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        return bool(matmul.allow_tf32)
    chosen = matmul.fp32_precision
    return "tf32" in (cast("Any", torch.backends).fp32_precision if chosen == "none" else chosen)


def _canonical(value: Any) -> bytes:
    """JSON that is the same in every process."""
    return json.dumps(_plain(value), sort_keys=True).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {str(key): _plain(item) for key, item in items if not _is_no_number(str(key))}
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in cast("set[Any]", value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _is_no_number(key: str) -> bool:
    return key in _NO_NUMBERS or key.startswith("_") or "dropout" in key or key.endswith("token_id")
