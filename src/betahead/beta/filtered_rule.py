"""What rules share that drop the outliers of a batch and hold their β above a floor."""

import math
from abc import ABC

from betahead.beta.batch_rule import BatchRule
from betahead.beta.draws import checked_seed
from betahead.beta.gaussian_filter import GaussianFilter
from betahead.beta.head_settings import floor_under, number, one_of
from betahead.beta.moving import MovingMoments, Start


class FilteredRule(BatchRule, ABC):
    """A rule of the batch with a moving mean of margins, a Gaussian filter around it, and a smallest β.

    Args:
        initial_beta: β₀ > 0.
        drop: share of a batch that is dropped, in [0, 1).
        momentum: of the moving statistics, in [0, 1).
        floor: the smallest β, in (0, β₀].
        start: how the moving statistics begin, `zero` or `corrected`.
        seed: of the filter's draws.

    Raises:
        ConfigError: for a value out of range.

    Source:
        Wu et al. 2024, β-DPO, equations 6 to 9, https://arxiv.org/abs/2407.08639.
    """

    weighs: bool = True

    def __init__(
        self, *, initial_beta: float, drop: float, momentum: float, floor: float, start: Start, seed: int
    ) -> None:
        super().__init__()
        self.initial_beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
        self.drop = number("drop", drop, "in [0, 1)", 0, 1)
        self.momentum = number("momentum", momentum, "in [0, 1)", 0, 1)
        self.floor = floor_under(self.initial_beta, floor)
        one_of("start", start, ("zero", "corrected"))
        self.start: Start = start
        self.seed = checked_seed(seed)
        self.moments = MovingMoments(self.momentum, start)
        self.filter = GaussianFilter(self.drop, self.seed)

    @property
    def bounds(self) -> tuple[float, float]:
        """The floor, and nothing above: the log shows the share of pairs that the floor holds."""
        return self.floor, math.inf
