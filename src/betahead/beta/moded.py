"""A rule whose way of learning is a part of its own, which hears of everything that happens to the rule."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.learned_settings import LearnedSettings, filled_in
from betahead.beta.learning import Base, LearningMode
from betahead.beta.rule import BetaRule
from betahead.types import PromptFeatures, Shaping


class ModedBeta(BetaRule):
    """The part of `LearnedBeta` that passes on.

    Attributes:
        mode: the way of learning.
        resolved: the other settings.
        given: the arguments that both were made of.
    """

    mode: LearningMode
    resolved: LearnedSettings
    given: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments, with the defaults that apply filled in and None for what does not apply."""
        return filled_in(self.given, self.resolved, self.mode)

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

    def see(self, features: PromptFeatures) -> None:
        """Show the answers to a way of learning that reads them, when they are learned from."""
        if self.mode.reads_answers and self.training and torch.is_grad_enabled():
            assert features.pair is not None, "this way of learning reads the answers"
            self.mode.answers_seen(features.pair)

    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Tell the way of learning."""
        self.mode.step_taken(summed, self._limits)

    def kl_measured(self, nats: float) -> None:
        """Tell the way of learning."""
        self.mode.kl_measured(nats, self._limits)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this: what hangs on β follows."""
        return self.mode.reshaped(shaping, beta, self.base)
