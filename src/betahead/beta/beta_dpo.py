"""β-DPO: one β for each batch, larger where the batch's margins are above their moving mean; outliers are dropped."""

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.filtered_rule import FilteredRule
from betahead.beta.head_settings import number, one_of
from betahead.beta.moving import Start
from betahead.beta.plain_shaping import plain_shaping
from betahead.types import PromptFeatures, Shaping

_WU = "Wu et al. 2024, https://arxiv.org/abs/2407.08639"


class BatchAdaptiveBeta(FilteredRule):
    """β = max(β₀·(1 + a·(mean M of the kept pairs − m)), floor), with M = h or β₀·h and m its moving mean.

    Args:
        initial_beta: β₀ > 0.
        response: a ≥ 0; 0 leaves β₀.
        gap_scale: `raw` takes M = h in nats, as the released code does, `beta` M = β₀·h, as the paper says: the same a
            acts 1/β₀ times as strongly with `raw`.
        drop: share of a batch that is dropped, in [0, 1), by a Gaussian filter around m.
        momentum: of the moving mean and deviation of M, in [0, 1).
        floor: the smallest β, in (0, β₀].
        start: how the moving statistics begin, `zero` or `corrected`.
        seed: of the filter's draws.

    Raises:
        ConfigError: for a value out of range.

    Gradient:
        Into the margin alone; β and weight are constants.

    Source:
        Wu et al. 2024, equations 6 to 9, https://arxiv.org/abs/2407.08639.
    """

    kind: ClassVar[str] = "beta_dpo"
    card: ClassVar[MethodCard] = MethodCard(
        title="β-DPO",
        formula=(
            "M_i = h_i (gap_scale: raw) or β₀·h_i (beta)\n"
            "m ← 0.9 m + 0.1 · mean M, s ← 0.9 s + 0.1 · std M\n"
            "keep ⌊n(1 − drop)⌋ pairs, chances ∝ exp(−½((M_i − m)/s)²)\n"
            "β = max(β₀ · (1 + a · (mean of kept M − m)), floor), weight_i = n/kept or 0"
        ),
        cost="one gather of a number a pair",
        source=_WU,
        deviates=(
            "s is at least 1e-3 (its code gives NaN where policy and reference are the same); one draw for all ranks, "
            "and the mean over all pairs kept; evaluation and a batch of one pair keep every pair and move nothing"
        ),
        checked="code",
    )

    def __init__(
        self,
        initial_beta: float = 0.1,
        response: float = 0.6,
        gap_scale: Literal["raw", "beta"] = "raw",
        drop: float = 0.2,
        momentum: float = 0.9,
        floor: float = 1e-3,
        start: Start = "zero",
        seed: int = 0,
    ) -> None:
        super().__init__(initial_beta=initial_beta, drop=drop, momentum=momentum, floor=floor, start=start, seed=seed)
        self.response = number("response", response, "a number that is at least 0", 0)
        one_of("gap_scale", gap_scale, ("raw", "beta"))
        self.gap_scale: Literal["raw", "beta"] = gap_scale

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The batch's β for every pair; a dropped pair weighs 0, and the others n/kept."""
        gaps = self.everyone(margin) * (1.0 if self.gap_scale == "raw" else self.initial_beta)
        mean, deviation = self.moments(gaps)
        kept = self.filter((gaps - mean) / deviation)
        gap = (kept * gaps).sum() / kept.sum()
        beta = (self.initial_beta * (1.0 + self.response * (gap - mean))).clamp(min=self.floor)
        return plain_shaping(margin, beta=beta, weight=self.mine(kept / kept.mean()))

    def log_metrics(self) -> dict[str, Tensor]:
        """The moving mean and deviation of M."""
        return {"beta/gap_mean": self.moments.mean, "beta/gap_deviation": self.moments.deviation}
