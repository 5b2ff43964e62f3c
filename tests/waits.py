"""What would make the host wait for a CUDA device, seen on the CPU: reads of values, shapes that depend on values.

Operations are seen where they are dispatched, those of the backward pass included; `tolist`, `cpu` and the making of
tensors from Python numbers where they are called, because on the CPU nothing is dispatched for them.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_PACKAGE = Path(__file__).parents[1] / "src" / "betahead"

# Their result, or its shape, has to be known to the host.
_WAITING = {
    "aten::_local_scalar_dense",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_scatter_backward",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_consecutive",
    "aten::unique_dim",
    "aten::_unique2",
}
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
_CALLS = {
    Tensor.tolist: "tolist",
    Tensor.cpu: "cpu",
    Tensor.numpy: "numpy",
    Tensor.new_tensor: "new_tensor",
    torch.tensor: "tensor",
    torch.as_tensor: "as_tensor",
}


def _place() -> str:
    """The innermost file of the package on the stack, or `backward` when the backward pass runs inside of it."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            return str(path.relative_to(_PACKAGE))
        if path.match("torch/autograd/graph.py") and frame.f_code.co_name == "_engine_run_backward":
            return "backward"
        frame = frame.f_back
    return "elsewhere"


class _Operations(TorchDispatchMode):
    def __init__(self, seen: list[tuple[str, str]]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        masked = name in _INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        counted = name == "aten::repeat_interleave" and kwargs.get("output_size") is None
        if name in _WAITING or masked or counted:
            self.seen.append((name.removeprefix("aten::"), _place()))
        return func(*args, **kwargs)


class _Calls(TorchFunctionMode):
    def __init__(self, seen: list[tuple[str, str]]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _CALLS:
            self.seen.append((_CALLS[func], _place()))
        return func(*args, **(kwargs or {}))


class Waits:
    """Collects (operation, place) while it is open."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self._modes = (_Operations(self.seen), _Calls(self.seen))

    def __enter__(self) -> list[tuple[str, str]]:
        for mode in self._modes:
            mode.__enter__()
        return self.seen

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
