"""Stand-ins for packages of which the engine reads names alone, so that torch and transformers are enough to run it."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

from torch import Tensor, nn


class _Shaped:
    """`Float[Tensor, "pairs"]` without the package that checks it: a tensor."""

    def __class_getitem__(cls, item: Any) -> type:
        return Tensor


def missing(name: str) -> bool:
    """Whether the package is not installed."""
    return importlib.util.find_spec(name) is None


def fill_in() -> list[str]:
    """Put a stand-in where jaxtyping (annotations) or peft (one class that is asked for) is missing.

    Returns:
        What was filled in.
    """
    contents: dict[str, dict[str, Any]] = {
        "jaxtyping": dict.fromkeys(("Float", "Int", "Bool", "Shaped"), _Shaped),
        "peft": {"PeftModel": type("PeftModel", (nn.Module,), {})},
    }
    filled = [name for name in contents if missing(name)]
    for name in filled:
        module = ModuleType(name)
        vars(module).update(contents[name])
        sys.modules[name] = module
    return filled
