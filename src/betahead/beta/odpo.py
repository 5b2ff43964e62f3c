"""ODPO: a pair must be won by as much as one answer is better than the other."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.columns import column
from betahead.beta.head_settings import number, one_of
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping

_SOURCE = "Amini et al. 2024, Direct Preference Optimization with an Offset, https://arxiv.org/abs/2402.10571"


class OffsetTarget(BetaRule):
    """β·h must exceed an offset of the pair: target a·log(strength)/β, or a·strength/β.

    The column `strength` says how much better the chosen answer is: the difference of two scores, or a judge's
    certainty.

    Args:
        beta: KL weight, > 0.
        alpha: a ≥ 0; 0 is DPO.
        scale: `log` takes the logarithm of the strength, which must be positive; `linear` the strength itself, which
            suits a certainty in [0, 1], whose logarithm would make every offset negative.

    Raises:
        ConfigError: for a value out of range.

    Source:
        Amini et al. 2024, Direct Preference Optimization with an Offset, equation 8, https://arxiv.org/abs/2402.10571.

    Deviates:
        The column is the difference of scores itself; the paper also takes their ratio, which a column can hold as
        well.
    """

    kind: ClassVar[str] = "odpo"
    reads: ClassVar[Reads] = "pair"
    card: ClassVar[MethodCard] = MethodCard(
        title="ODPO",
        formula="target_i = a·log(strength_i) / β, so that the loss is −log σ(β·h_i − a·log(strength_i))",
        cost="a column of the data",
        source=_SOURCE,
        deviates=(
            "scale: linear takes the strength itself, for data that give a certainty in [0, 1]: its logarithm is no "
            "number at 0 and below 0 elsewhere, so that scale: log would ask every pair for less than DPO does"
        ),
        checked="code",
    )
    columns: frozenset[str] = frozenset({"strength"})
    moves_target: bool = True

    def __init__(self, beta: float = 0.1, alpha: float = 1.0, scale: Literal["log", "linear"] = "log") -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)
        self.alpha = number("alpha", alpha, "a number of at least 0", 0)
        one_of("scale", scale, ("log", "linear"))
        self.scale: Literal["log", "linear"] = scale
        self.positive = self.columns if scale == "log" else frozenset[str]()
        if scale == "log":
            self.column_remedy = "correct the column, or use `beta.scale: linear`, which has a place for 0"

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing but the column."""
        return frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"beta": self.beta, "alpha": self.alpha, "scale": self.scale}

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The constant β and the pair's target.

        Raises:
            DataError: the column is not there.
        """
        if self.alpha == 0.0:  # 0 · log 0 is no number: without an offset the strength is not looked at
            return plain_shaping(margin, beta=self.beta)
        strength = column(features, "strength").to(margin.dtype)
        offset = self.alpha * (strength.log() if self.scale == "log" else strength)
        return plain_shaping(margin, beta=self.beta, target=offset / self.beta)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this: the offset stays, and with it β · target."""
        return replace(shaping, beta=beta, target=shaping.target * shaping.beta / beta)
