"""The mean of a quantity over the pairs of an optimizer step, however they are cut into passes and ranks."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class StepMean:
    """Collects values pass by pass, and gives their mean once the step is taken."""

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, values: Float[Tensor, " pairs"]) -> None:
        """Take the values of the pairs of a pass, without gradient."""
        one = torch.stack([values.detach().sum(), values.new_full((), len(values))])
        self._sums = one if self._sums is None else self._sums + one

    def taken(self, summed: Callable[[Tensor], Tensor]) -> Float[Tensor, ""] | None:
        """The mean over all pairs since the last call, or None for no pairs.

        Args:
            summed: adds a tensor up over ranks.
        """
        if self._sums is None:
            return None
        total, pairs = summed(self._sums).unbind()
        self._sums = None
        return total / pairs
