"""The rule of oracles: β(x) comes with the data."""

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.columns import column
from betahead.beta.head_settings import number, one_of
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping


class GivenBeta(BetaRule):
    """β(x) = β₀ · the pair's column `given_beta`, target 0, penalty 0.

    An oracle knows what is planted in a world and writes it into that column; nothing is learned.

    Args:
        initial_beta: β₀ > 0.
        push: with `beta` the first push on a pair is proportional to β(x), so that β also acts as a weight; with `even`
            the loss is weighted by β₀/β(x), so that β(x) only sets where a pair stops.

    Raises:
        ConfigError: for a value out of range.

    Source:
        A β of the prompt alone as its KL weight: Chen et al. 2025, MallowsPO, proposition 4,
        https://arxiv.org/abs/2405.14953.
    """

    kind: ClassVar[str] = "given"
    reads: ClassVar[Reads] = "prompt"
    card: ClassVar[MethodCard] = MethodCard(
        title="β from the data",
        formula="β_i = β₀ · given_beta_i, weight_i = 1 (push: beta) or β₀/β_i (even)",
        cost="a column of the data",
        refuses=(
            "with push: even, losses in which the pairs of a pass act on one another",
            "with push: even, losses with 1/β in them (ipo, sppo_hard, cal_dpo)",
        ),
        source="Chen et al. 2025, MallowsPO, proposition 4, https://arxiv.org/abs/2405.14953",
    )

    columns: frozenset[str] = frozenset({"given_beta"})
    positive: frozenset[str] = frozenset({"given_beta"})

    def __init__(self, initial_beta: float = 0.1, push: Literal["beta", "even"] = "beta") -> None:
        super().__init__()
        self.initial_beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
        one_of("push", push, ("beta", "even"))
        self.push: Literal["beta", "even"] = push
        self.weighs = self.evens_push = push == "even"

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing of the prompts."""
        return frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"initial_beta": self.initial_beta, "push": self.push}

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β₀ times the column.

        That its numbers are positive is checked where the data are (`train/scored.py`): looking at them here would wait
        for the device at every step.

        Raises:
            DataError: the column is not there.
        """
        beta = self.initial_beta * column(features, "given_beta").to(margin.dtype)
        return self._shaping(beta)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this."""
        return self._shaping(beta)

    def _shaping(self, beta: Tensor) -> Shaping:
        zeros = torch.zeros_like(beta)
        weight = zeros + 1.0 if self.push == "beta" else self.initial_beta / beta
        return Shaping(beta=beta, target=zeros, weight=weight, penalty=zeros)
