"""Which pairs of a batch are kept: a draw without replacement that favours margins near the moving mean."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from betahead.beta.draws import gumbel


class GaussianFilter(nn.Module):
    """Keeps ⌊n(1 − drop)⌋ of n pairs, at least one, with chances ∝ exp(−distance²/2), without replacement.

    The draw follows from the seed and from how many draws there were, so every rank keeps the same pairs, and a resumed
    training goes on with the same ones.

    Args:
        drop: share that is dropped, in [0, 1).
        seed: of the draws, in [0, 2³²).

    Source:
        Wu et al. 2024, β-DPO, section 4.2, https://arxiv.org/abs/2407.08639.

    Deviates:
        Evaluation keeps every pair: its loss is no matter of chance. The released code lets each rank draw for itself.
    """

    drawn: Tensor

    def __init__(self, drop: float, seed: int) -> None:
        super().__init__()
        self.drop = drop
        self.seed = seed
        self.register_buffer("drawn", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, distance: Float[Tensor, " everyone"]) -> Float[Tensor, " everyone"]:
        """1 for a pair that is kept and 0 for the others; all 1 in evaluation.

        Args:
            distance: of the margin to the mean, in deviations.
        """
        pairs = len(distance)
        # 20 · (1 − 0.9) is 1.9999… in floating point.
        kept = max(1, math.floor(pairs * (1.0 - self.drop) + 1e-9))
        if not self.training or kept == pairs:
            return torch.ones_like(distance)
        noise = gumbel(pairs, seed=self.seed, counter=self.drawn).to(distance.dtype)
        self.drawn.add_(1)
        chosen = (noise - 0.5 * distance.square()).topk(kept).indices
        return torch.zeros_like(distance).scatter(0, chosen, 1.0)
