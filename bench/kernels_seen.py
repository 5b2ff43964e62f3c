"""Which of the engine's attention kernels a pass runs through."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

KERNELS = {"sdpa": "masked_branches", "varlen": "varlen_branches", "flex": "flex_branches"}


@contextmanager
def kernels_seen() -> Iterator[set[str]]:
    """Collects the names of the kernels that carry attention of packed batches out inside."""
    from betahead.forward import attention

    seen: set[str] = set()
    own = {function: getattr(attention, function) for function in KERNELS.values()}

    def noting(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            seen.add(name)
            return kernel(*arguments, **keywords)

        return run

    for name, function in KERNELS.items():
        setattr(attention, function, noting(name, own[function]))
    try:
        yield seen
    finally:
        for function, kernel in own.items():
            setattr(attention, function, kernel)
