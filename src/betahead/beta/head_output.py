"""What a BetaHead returns."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadOutput:
    """β of every prompt, and what it is made of.

    Args:
        beta: inside the bounds, > 0.
        correction: f(x) in the banded form; exp(NN) in the direct form. 1 for a new head.
        log_ratio: log β/β₀ of the head alone, before any shift and the bounds.
        at_bound: True where the bounds hold β back.
    """

    beta: Float[Tensor, " pairs"]
    correction: Float[Tensor, " pairs"]
    log_ratio: Float[Tensor, " pairs"]
    at_bound: Bool[Tensor, " pairs"]
