"""What every way of learning is: from β to the shaping that policy and head descend together."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from betahead.beta.heldout import HeldOut
from betahead.beta.kl_sampling import KLSampling
from betahead.types import PairReading, Shaping

Base = float | Float[Tensor, ""]
"""The level that β is compared with: β₀, or where a budget has moved it."""


class LearningMode(nn.Module, ABC):
    """How the head of a `LearnedBeta` learns; its statistics are buffers, so that checkpoints hold them.

    Attributes:
        kind: its name as `learning.kind`.
        own: the keyword arguments of its constructor, all of them JSON values.
        links: the links that its mathematics is made for, or None for all of them.
        trains: whether anything trains the head.
        evens_push: see `BetaRule.evens_push`.
        reads_answers: whether `answers_seen` is to be called.
        kl_sampling: see `BetaRule.kl_sampling`.
        levels_itself: whether the level of β follows from what the head descends, or would run away if it were free.
        couples: whether the gradient of β may flow through the features into the policy.
        held_out: what the trainer is to take the head's gradient from, or None for a head that descends its loss.
    """

    kind: ClassVar[str]
    own: ClassVar[tuple[str, ...]] = ()
    links: frozenset[str] | None = None
    trains: bool = True
    evens_push: bool = False
    reads_answers: bool = False
    kl_sampling: KLSampling | None = None
    levels_itself: bool = False
    couples: bool = True
    held_out: HeldOut | None = None

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The values of `own`, defaults filled in."""

    @abstractmethod
    def shaping(self, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """What policy and head descend.

        Args:
            beta: β of every pair's prompt, attached to the head.
            base: the level that a new head would give.
        """

    def bounds(self, initial_beta: float) -> tuple[float, float]:
        """The bounds of β when none are given."""
        return initial_beta / 10, initial_beta * 10

    def base(self, initial_beta: float) -> Base:
        """The level that a new head would give by now."""
        return initial_beta

    def log_shift(self) -> Base:
        """What is added to the head's log β before its bounds."""
        return 0.0

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """The shaping had β been this."""
        return replace(shaping, beta=beta)

    def answers_seen(self, pair: PairReading) -> None:
        """Learn what the policy makes of the answers of a pass, just before it is trained on them."""

    def ratios_seen(self, log_ratio: Float[Tensor, " pairs"]) -> None:
        """Learn what the head itself says of the pairs of a pass: log β/β₀ before any shift and the bounds."""

    def step_taken(self, summed: Callable[[Tensor], Tensor], limits: tuple[float, float]) -> None:
        """See `BetaRule.step_taken`; `limits` are the bounds of log β/β₀."""

    def kl_measured(self, nats: float, limits: tuple[float, float]) -> None:
        """See `BetaRule.kl_measured`; `limits` are the bounds of log β/β₀."""

    def log_metrics(self, initial_beta: float) -> dict[str, Tensor]:
        """Scalars of its state that belong into the log."""
        return {}
