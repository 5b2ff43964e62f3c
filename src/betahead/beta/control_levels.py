"""Controls that keep the level of a rule's β, or its level and spread, and none of its allocation."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.controls import ControlledBeta, control_card
from betahead.beta.rule import BetaRule
from betahead.types import Shaping

_MOMENTUM = 0.9


class _LevelledBeta(ControlledBeta):
    """A control that knows the moving mean and spread of log β."""

    mean: Tensor
    variance: Tensor
    steps: Tensor

    def __init__(self, of: BetaRule) -> None:
        super().__init__(of)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def changed(self, own: Shaping) -> Shaping:
        """The rule's shaping for another β."""
        log_beta = own.beta.log()
        begun = self.steps > 0
        mean = torch.where(begun, self.mean.lerp(log_beta.mean(), 1 - _MOMENTUM), log_beta.mean())
        around = (log_beta - mean).square().mean()
        variance = torch.where(begun, self.variance.lerp(around, 1 - _MOMENTUM), around)
        if self.training:
            self.mean.copy_(mean)
            self.variance.copy_(variance)
            self.steps.add_(1)
        else:
            mean, variance = torch.where(begun, self.mean, mean), torch.where(begun, self.variance, variance)
        return self.of.reshaped(own, self.moved(log_beta, mean, variance.sqrt()).exp())

    @abstractmethod
    def moved(self, log_beta: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """log β as the policy gets it."""


class NoiseBeta(_LevelledBeta):
    """log β = the rule's moving mean + its moving spread × a normal draw, new for every pair and step.

    Args:
        of: the rule.
        seed: of the draws.
    """

    kind: ClassVar[str] = "noise"
    card: ClassVar[MethodCard] = control_card("noise", "log β_i = moving mean + moving spread · a normal draw")

    def __init__(self, of: BetaRule, seed: int = 0) -> None:
        super().__init__(of)
        self.seed = seed

    @property
    def settings(self) -> dict[str, Any]:
        """The rule inside and the seed."""
        return super().settings | {"seed": self.seed}

    def moved(self, log_beta: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """The draws follow from the seed and the number of steps, so that a resumed training goes on with the same."""
        drawn = torch.Generator().manual_seed(self.seed * 2**32 + int(self.steps))
        return mean + spread * torch.randn(log_beta.shape, generator=drawn).to(log_beta)


class FlippedBeta(_LevelledBeta):
    """log β = 2·mean − log β: where the rule raises β above its moving mean, the policy gets it lowered as much."""

    kind: ClassVar[str] = "flipped"
    card: ClassVar[MethodCard] = control_card("flipped β", "log β_i = 2 · moving mean − log β of the rule")

    def moved(self, log_beta: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """Mirrored at the mean."""
        return 2 * mean - log_beta


class MatchedBeta(_LevelledBeta):
    """log β = the rule's moving mean: its level without its allocation."""

    kind: ClassVar[str] = "matched"
    card: ClassVar[MethodCard] = control_card("matched mean", "log β_i = moving mean of the rule")

    def moved(self, log_beta: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
        """The mean for every pair."""
        return mean.expand_as(log_beta)
