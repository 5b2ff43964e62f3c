"""α-DPO: SimPO whose target margin is larger where the policy has already moved further than the reference."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from betahead.beta.batch_rule import BatchRule
from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number, one_of
from betahead.beta.moving import MovingMoments, Start
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import MarginOf, Need
from betahead.types import PromptFeatures, Shaping


class AlphaTarget(BatchRule):
    """Target margin γ/β + α·z, z the moving z-score of the mean margin with reference; h is the policy's own.

    Args:
        beta: β > 0, per nat a token.
        gamma: γ ≥ 0; with `units: code` what is given is γ/β. Default: γ/β = 0.6.
        alpha: α ≥ 0; 0 is SimPO. Default: α of the code = 0.2.
        units: `code` gives the target γ and α in nats per token, as the released code has them, `paper` in units
            of β·h: γ of the paper is β times γ of the code, and α likewise.
        momentum: of the moving mean and deviation, in [0, 1).
        start: how they begin, `zero` or `corrected`.

    Raises:
        ConfigError: for a value out of range.

    Gradient:
        Into the margin alone; the reference enters through the target, which is a constant.

    Source:
        Wu et al. 2025, equation 9, https://arxiv.org/abs/2410.10148.
    """

    kind: ClassVar[str] = "alpha_dpo"
    margin_of: MarginOf = "policy"
    moves_target: bool = True
    links: frozenset[str] | None = frozenset({"sigmoid", "robust", "hinge"})
    card: ClassVar[MethodCard] = MethodCard(
        title="α-DPO",
        formula=(
            "h_i = mean log π(y_w) − mean log π(y_l), d_i = h_i less the same of the reference\n"
            "m ← 0.9 m + 0.1 · mean d, s ← 0.9 s + 0.1 · std d, z_i = (d_i − m)/s\n"
            "target_i = γ + α·z_i (units: code) or (γ + α·z_i)/β (paper)"
        ),
        cost="one gather of a number a pair",
        source="Wu et al. 2025, https://arxiv.org/abs/2410.10148",
        deviates=(
            "s is at least 1e-3, for a policy that is its reference; evaluation and a batch of one pair move "
            "nothing; start: zero, as in the authors' code, gives targets of several nats per token in the first "
            "steps, which start: corrected avoids"
        ),
        checked="code",
    )

    def __init__(
        self,
        beta: float = 2.5,
        gamma: float | None = None,
        alpha: float | None = None,
        units: Literal["code", "paper"] = "code",
        momentum: float = 0.9,
        start: Start = "zero",
    ) -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)
        one_of("units", units, ("code", "paper"))
        self.units: Literal["code", "paper"] = units
        unit = 1.0 if units == "code" else self.beta
        self.gamma = number("gamma", 0.6 * unit if gamma is None else gamma, "a number that is at least 0", 0)
        self.alpha = number("alpha", 0.2 * unit if alpha is None else alpha, "a number that is at least 0", 0)
        self.momentum = number("momentum", momentum, "in [0, 1)", 0, 1)
        one_of("start", start, ("zero", "corrected"))
        self.start: Start = start
        self.moments = MovingMoments(self.momentum, start)
        self._unit = unit

    @property
    def needs(self) -> frozenset[Need]:
        """The pair, for the margin with reference."""
        return frozenset({Need.PAIR})

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β for every pair, and its target."""
        assert features.pair is not None, "the rule reads the pair, but was given none"
        apart = features.pair.mean_margin.detach().to(margin.dtype)
        mean, deviation = self.moments(self.everyone(apart))
        target = (self.gamma + self.alpha * (apart - mean) / deviation) / self._unit
        return plain_shaping(margin, beta=self.beta, target=target)

    def log_metrics(self) -> dict[str, Tensor]:
        """The moving mean and deviation of the mean margin with reference."""
        return {"target/gap_mean": self.moments.mean, "target/gap_deviation": self.moments.deviation}
