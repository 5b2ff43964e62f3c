"""AMaPO: SimPO with a target margin only for the pairs whose margin is below that of their batch."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.batch_rule import BatchRule
from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number
from betahead.beta.moving import SMALLEST_DEVIATION
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import MarginOf
from betahead.types import PromptFeatures, Shaping

_HIGHEST = 20.0
"""The largest exponent: a target of e²⁰ nats a token has the gradient of any larger one, and no float overflows."""


class BelowMeanTarget(BatchRule):
    """Target exp(((μ − h)/s)·μ) where h < μ and 0 elsewhere; μ and s are mean and deviation of h in the batch.

    Args:
        beta: β > 0, per nat a token.

    Raises:
        ConfigError: when β is not a positive number.

    Gradient:
        Into the margin alone; the target is a constant.

    Source:
        Deng et al. 2026, https://arxiv.org/abs/2511.09385.
    """

    kind: ClassVar[str] = "amapo"
    margin_of: MarginOf = "policy"
    moves_target: bool = True
    links: frozenset[str] | None = frozenset({"sigmoid", "robust", "hinge"})
    card: ClassVar[MethodCard] = MethodCard(
        title="AMaPO",
        formula=(
            "h_i = mean log π(y_w) − mean log π(y_l), μ and s its mean and deviation in the batch\n"
            "target_i = exp(((μ − h_i)/s)·μ) where h_i < μ, else 0"
        ),
        cost="one gather of a number a pair; no reference",
        source="Deng et al. 2026, https://arxiv.org/abs/2511.09385",
        deviates=(
            "s is at least 1e-3; a batch of one pair has no target; the exponent ends at 20, where the gradient is "
            "that of any larger one; the paper's SFT term is sft beside the loss"
        ),
        checked="code",
    )

    def __init__(self, beta: float = 2.5) -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β for every pair, and the target of those below the mean."""
        gaps = self.everyone(margin)
        mean = gaps.mean()
        deviation = gaps.std(correction=min(1, len(gaps) - 1)).clamp(min=SMALLEST_DEVIATION)
        still = margin.detach()
        height = ((mean - still) / deviation * mean).clamp(max=_HIGHEST).exp()
        target = torch.where(still < mean, height, 0.0)
        return plain_shaping(margin, beta=self.beta, target=target)
