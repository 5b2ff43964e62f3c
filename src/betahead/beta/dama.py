"""DAMA: β of the batch rises with its margins by a ratio of sigmoids, which stays positive, times one of the data."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from betahead.beta.card import MethodCard
from betahead.beta.columns import column
from betahead.beta.filtered_rule import FilteredRule
from betahead.beta.head_settings import number, one_of
from betahead.beta.moving import Start
from betahead.beta.plain_shaping import plain_shaping
from betahead.errors import ConfigError
from betahead.types import PromptFeatures, Shaping


class BoundedRatioBeta(FilteredRule):
    """β_i = max(β₀ · data_i · (mean σ(h) of the kept pairs)/σ(m), floor), m the moving mean of h.

    The ratio of the batch is positive and at most 1/σ(m): below 2 once margins are positive in the mean.

    Args:
        initial_beta: β₀ > 0.
        data: `none`, or `reward_margin`: data_i = σ(r_i)/σ(data_level) with r_i the pair's column `reward_margin`, in
            place of the difference of two CLIP scores that the paper takes for pairs about an image.
        data_level: the r at which the data leave β as it is, such as its mean.
        drop: share of a batch that is dropped, in [0, 1), by a Gaussian filter of deviation 1 nat around m.
        momentum: of m, in [0, 1).
        floor: the smallest β, in (0, β₀].
        start: how m begins, `zero` or `corrected`.
        seed: of the filter's draws.

    Raises:
        ConfigError: for a value out of range.

    Gradient:
        Into the margin alone; β and weight are constants.

    Source:
        Lu et al. 2025, https://arxiv.org/abs/2502.01943, the rule of the released code.
    """

    kind: ClassVar[str] = "dama"
    card: ClassVar[MethodCard] = MethodCard(
        title="DAMA",
        formula=(
            "m ← 0.9 m + 0.1 · mean h\n"
            "keep ⌊n(1 − drop)⌋ pairs, chances ∝ exp(−½(h_i − m)²)\n"
            "data_i = σ(r_i)/σ(data_level) (data: reward_margin) or 1 (none)\n"
            "β_i = max(β₀ · data_i · (mean of kept σ(h))/σ(m), floor), weight_i = n/kept or 0"
        ),
        cost="one gather of a number a pair; with data: reward_margin a column of the data",
        source="Lu et al. 2025, https://arxiv.org/abs/2502.01943",
        deviates=(
            "pairs of text have no CLIP score: a reward model's margin takes its place, or nothing; one draw for all "
            "ranks; evaluation and a batch of one pair keep every pair and move nothing"
        ),
        checked="code",
    )

    def __init__(
        self,
        initial_beta: float = 0.1,
        data: Literal["none", "reward_margin"] = "none",
        data_level: float = 0.0,
        drop: float = 0.2,
        momentum: float = 0.9,
        floor: float = 1e-3,
        start: Start = "zero",
        seed: int = 0,
    ) -> None:
        super().__init__(initial_beta=initial_beta, drop=drop, momentum=momentum, floor=floor, start=start, seed=seed)
        one_of("data", data, ("none", "reward_margin"))
        self.data: Literal["none", "reward_margin"] = data
        self.columns = frozenset() if data == "none" else frozenset({data})
        self.data_level = number("data_level", data_level, "a finite number", -math.inf)
        if data == "none" and self.data_level != 0.0:
            raise ConfigError(
                f"`beta.data_level` applies only with data: reward_margin, but is {data_level!r} here; remove it."
            )

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β of every pair; a dropped pair weighs 0, and the others n/kept.

        Raises:
            DataError: the column is not there.
        """
        gaps = self.everyone(margin)
        mean, _ = self.moments(gaps)
        kept = self.filter(gaps - mean)
        # In logarithms: both sigmoids are 0 in float32 where margins are below −104 nats.
        log_ratio = (logsigmoid(gaps) + kept.log()).logsumexp(0) - kept.sum().log() - logsigmoid(mean)
        beta = self.initial_beta * log_ratio.exp()
        if self.data == "reward_margin":
            level = torch.full_like(mean, self.data_level).sigmoid()
            beta = beta * column(features, "reward_margin").to(margin.dtype).sigmoid() / level
        return plain_shaping(margin, beta=beta.clamp(min=self.floor), weight=self.mine(kept / kept.mean()))

    def log_metrics(self) -> dict[str, Tensor]:
        """The moving mean of h."""
        return {"beta/gap_mean": self.moments.mean}
