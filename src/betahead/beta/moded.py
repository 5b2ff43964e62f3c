"""A rule whose way of learning is a part of its own, which hears of everything that happens to the rule."""

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from betahead.beta.kl_sampling import KLSampling
from betahead.beta.learned_settings import LearnedSettings
from betahead.beta.learning import Base, LearningMode
from betahead.beta.rule import BetaRule
from betahead.types import Shaping


class ModedBeta(BetaRule):
    """The part of `LearnedBeta` that passes on.

    Attributes:
        mode: the way of learning.
        resolved: the other settings.
    """

    mode: LearningMode
    resolved: LearnedSettings

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The bounds of the head."""
        return self.resolved.bounds

    @property
    def base(self) -> Base:
        """The level that a new head would give by now: β₀, or where a budget has moved it."""
        return self.mode.base(self.resolved.initial_beta)

    @property
    def _limits(self) -> tuple[float, float]:
        low, high = self.resolved.bounds
        return math.log(low / self.resolved.initial_beta), math.log(high / self.resolved.initial_beta)

    def answers_seen(self, chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"]) -> None:
        """Tell the way of learning."""
        self.mode.answers_seen(chosen, rejected)

    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Tell the way of learning."""
        self.mode.step_taken(summed, self._limits)

    @property
    def kl_sampling(self) -> KLSampling | None:
        """What the way of learning asks for."""
        return self.mode.kl_sampling

    def kl_measured(self, nats: float) -> None:
        """Tell the way of learning."""
        self.mode.kl_measured(nats, self._limits)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this: what hangs on β follows."""
        return self.mode.reshaped(shaping, beta, self.base)
