"""MADPO: a reward model's margin says how much a pair counts."""

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from betahead.beta.card import MethodCard
from betahead.beta.columns import column
from betahead.beta.head_settings import number
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping


class RewardMarginWeight(BetaRule):
    """Pairs that a reward model finds hard weigh more, and easy ones less; the reward model is trained beforehand.

    With r the column `reward_margin` and c(r) = c_min + (c_max − c_min) / (1 + ((c_max − 1)/(1 − c_min))·e^{λ(r − τ)}),
    which falls from c_max to c_min and is 1 at τ:

        weight = σ(c(|r|)·r) / σ(r)  where r > −τ,  and 1 elsewhere

    Args:
        beta: KL weight, > 0.
        c_max: amplification of the smallest margins, > 1; the weight of a margin of 0 stays 1.
        c_min: that of the largest, in (0, 1); None for 1 / c_max.
        steepness: λ > 0.
        threshold: τ > 0, the margin whose pairs count as before; None for log 999 = 6.91, at which the reward model is
            99.9 % sure.

    Raises:
        ConfigError: for a value out of range.

    Source:
        Rho 2025, Margin Adaptive DPO, https://arxiv.org/abs/2510.05342.
    """

    kind: ClassVar[str] = "madpo"
    reads: ClassVar[Reads] = "pair"
    weighs: bool = True
    # A flipped label has another likelihood under the reward model, and so another weight.
    smooths: bool = False
    card: ClassVar[MethodCard] = MethodCard(
        title="MADPO",
        formula=(
            "weight_i = σ(c(|r_i|)·r_i) / σ(r_i) where r_i > −τ, else 1, with r_i = reward_margin_i\n"
            "c(r) = c_min + (c_max − c_min) / (1 + ((c_max − 1)/(1 − c_min))·e^{λ(r − τ)})"
        ),
        cost="a column of the data, for which a reward model must have been trained and asked",
        source="Rho 2025, Margin Adaptive DPO, https://arxiv.org/abs/2510.05342",
        checked="code",
    )
    columns: frozenset[str] = frozenset({"reward_margin"})

    def __init__(
        self,
        beta: float = 0.1,
        c_max: float = 2.0,
        c_min: float | None = None,
        steepness: float = 1.0,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)
        self.c_max = number("c_max", c_max, "a number above 1", 1, inside=False)
        self.c_min = 1.0 / self.c_max if c_min is None else number("c_min", c_min, "in (0, 1)", 0, 1, inside=False)
        self.steepness = number("steepness", steepness, "a positive number", 0, inside=False)
        wanted = math.log(999.0) if threshold is None else threshold
        self.threshold = number("threshold", wanted, "a positive number", 0, inside=False)
        # The weights are ratios of logistic likelihoods.
        self.links = frozenset({"sigmoid"})

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing but the column."""
        return frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "beta": self.beta,
            "c_max": self.c_max,
            "c_min": self.c_min,
            "steepness": self.steepness,
            "threshold": self.threshold,
        }

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The constant β and the pair's weight.

        Raises:
            DataError: the column is not there.
        """
        reward = column(features, "reward_margin").to(margin.dtype)
        # A ratio of likelihoods of which both may vanish.
        ratio = (logsigmoid(self.amplification(reward.abs()) * reward) - logsigmoid(reward)).exp()
        weight = torch.where(reward > -self.threshold, ratio, torch.ones_like(ratio))
        return plain_shaping(margin, beta=self.beta, weight=weight)

    def amplification(self, size: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """c of a margin's size: 1 at τ."""
        odds = (self.c_max - 1.0) / (1.0 - self.c_min)
        falling = 1.0 / (1.0 + odds * (self.steepness * (size - self.threshold)).exp())
        return self.c_min + (self.c_max - self.c_min) * falling
