"""Moving mean and deviation of what a rule reads, the same on all ranks and kept in checkpoints."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Start = Literal["zero", "corrected"]

SMALLEST_DEVIATION = 1e-3
"""In nats. Where policy and reference are the same, margins are 0 or errors of rounding, and a z-score would be 0/0 or
make a target of noise."""


class MovingMoments(nn.Module):
    """Exponentially weighted mean and standard deviation of batches: x ← momentum·x + (1 − momentum)·(that of a batch).

    A batch of one pair, such as the last of an epoch may be, is measured and moves nothing: it has no deviation, and
    its mean would count like that of a whole batch.

    Args:
        momentum: in [0, 1).
        start: both begin at 0; `zero` leaves them biased to it for the first dozens of batches, as the released codes
            of β-DPO and α-DPO do, `corrected` divides by 1 − momentum^batches, so that the first batch gives its own.

    Source:
        Wu et al. 2024, β-DPO, https://arxiv.org/abs/2407.08639; the correction: Kingma & Ba 2015, section 3,
        https://arxiv.org/abs/1412.6980.
    """

    mean: Tensor
    deviation: Tensor
    batches: Tensor

    def __init__(self, momentum: float, start: Start = "zero") -> None:
        super().__init__()
        self.momentum = momentum
        self.start: Start = start
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, values: Float[Tensor, " pairs"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Mean and deviation to measure these values by, moved by them first when the module is in training.

        Evaluation and a single value move nothing; before anything was moved the moments are those of the values
        themselves.

        Args:
            values: those of all ranks, at least one.

        Returns:
            (mean, deviation), the deviation at least 1e-3, of the values' dtype.

        Gradient:
            None.
        """
        # One value has no unbiased deviation; 0 leaves it with the smallest.
        found = torch.stack([values.mean(), values.std(correction=min(1, len(values) - 1))]).to(self.mean)
        if self.training and len(values) > 1:
            self.batches.add_(1)
            self.mean.lerp_(found[0], 1.0 - self.momentum)
            self.deviation.lerp_(found[1], 1.0 - self.momentum)
        moved = torch.stack([self.mean, self.deviation])
        if self.start == "corrected":
            moved = moved / (1.0 - torch.pow(self.momentum, self.batches.to(moved.dtype)))
        mean, deviation = torch.where(self.batches > 0, moved, found).to(values.dtype).unbind()
        return mean, deviation.clamp(min=SMALLEST_DEVIATION)
