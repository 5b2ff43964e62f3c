"""The running mean of rewards that the classifier of `bco` takes as its threshold."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

Pairs = Float[Tensor, " pairs"]


class RewardShift(nn.Module):
    """δ, the mean reward of all answers that training has seen, chosen and rejected alike; 0 before the first step.

    It moves once an optimizer step, over the pairs of all ranks, and not with evaluation, so how a batch is cut changes
    nothing and checkpoints hold the same number on every rank.

    Source:
        Jung et al. 2024, Binary Classifier Optimization, https://arxiv.org/abs/2404.04656.

    Deviates:
        A step is judged with the mean of the steps before it, where published code takes its own batch in first: the
        micro-batches of one step would see different thresholds.
    """

    mean: Tensor
    pairs: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("pairs", torch.zeros(()))
        self._seen: Tensor | None = None

    def see(self, chosen_rewards: Pairs, rejected_rewards: Pairs) -> None:
        """Take in the rewards of a pass, when it is one that is trained on."""
        if self.training and torch.is_grad_enabled():
            both = 0.5 * (chosen_rewards + rejected_rewards).detach()
            one = torch.stack([both.sum(), both.new_full((), len(both))])
            self._seen = one if self._seen is None else self._seen + one

    @torch.no_grad()
    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Move δ by the pairs of an optimizer step.

        Args:
            summed: adds a tensor up over ranks; the identity on one.
        """
        if self._seen is None:
            return
        total, count = summed(self._seen).unbind()
        self.pairs.add_(count)
        self.mean.add_((total - count * self.mean) / self.pairs)
        self._seen = None
