"""Learning on a budget: the user says how far the policy may move, and the level of β follows."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.budget_settings import KEPT, LEVEL_RATE, KLFrom, sampling_of, settings_of
from betahead.beta.dual_ascent import DualAscent
from betahead.beta.learning import Base, LearningMode
from betahead.beta.step_mean import StepMean
from betahead.types import PairReading, Shaping

_CENTRING = 0.1


class BudgetLearning(LearningMode):
    """β(x) = e^L · a(x): the level L by dual ascent on a KL estimate, the allocation a by another way of learning.

    An allocation with a level of its own (`perspective` with the quadratic regulariser, `none`) is multiplied as it
    is: there e^L takes the place of β₀, the one scale that is left. One whose level would run away (`joint`, the linear
    regulariser) is divided by the moving geometric mean of a, so that L is the mean log β/β₀ before the bounds.

    The loss of the allocation is divided by e^L, so that the level sets where pairs stop and never how hard they push.

    Args:
        allocation: how the head learns.
        target_kl: nats per answer, > 0.
        kl_from: `samples` (default): KL(π‖π_ref) of answers that the policy samples to training prompts, which costs
            generation. `answers`: the mean of −log π/π_ref over both answers of the pairs, which costs nothing and is
            KL(π_ref‖π) where the reference wrote the answers, and no divergence at all where something else did.
        kl_every, kl_prompts, kl_tokens: see `sampling_of`.
        level_rate: how fast the level follows, see `DualAscent`; default 0.15.

    Source:
        This package, docs/theory.md, section 6, with the sources of `DualAscent`.
    """

    kind: ClassVar[str] = "budget"
    own: ClassVar[tuple[str, ...]] = (
        *("target_kl", "allocation", "level_rate"),
        *("kl_from", "kl_every", "kl_prompts", "kl_tokens"),
    )
    levels_itself = True
    evens_push = True
    log_level: Tensor
    centre: Tensor
    kl: Tensor

    def __init__(
        self,
        *,
        allocation: LearningMode,
        target_kl: float,
        kl_from: KLFrom | None = None,
        kl_every: int | None = None,
        kl_prompts: int | None = None,
        kl_tokens: int | None = None,
        level_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.kl_sampling = sampling_of(kl_from, kl_every=kl_every, kl_prompts=kl_prompts, kl_tokens=kl_tokens)
        self.ascent = DualAscent(target=target_kl, rate=LEVEL_RATE if level_rate is None else level_rate)
        self.allocation = allocation
        self.links, self.trains, self.reads_answers = allocation.links, allocation.trains, self.kl_sampling is None
        self.couples, self.held_out = allocation.couples, allocation.held_out
        self._answers, self._levels = StepMean(), StepMean()
        for name in ("log_level", "centre", "kl"):
            self.register_buffer(name, torch.zeros(()))

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the budget and those of the allocation."""
        return {
            "target_kl": self.ascent.target,
            "allocation": self.allocation.kind,
            "level_rate": self.ascent.rate,
            **settings_of(self.kl_sampling),
            **self.allocation.settings,
        }

    def bounds(self, initial_beta: float) -> tuple[float, float]:
        """Absolute ones: a budget may lie far from where β₀ would lead."""
        return 1e-3, 30.0

    def base(self, initial_beta: float) -> Base:
        """β₀·e^L."""
        return initial_beta * self.log_level.exp()

    def log_shift(self) -> Base:
        """L, less the mean log a of an allocation that has no level of its own."""
        return self.log_level - self.centre

    def shaping(self, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """That of the allocation, around the level."""
        shaping = self.allocation.shaping(beta, base)
        return replace(shaping, weight=self._even * shaping.weight, penalty=self._even * shaping.penalty)

    def ratios_seen(self, log_ratio: Float[Tensor, " pairs"]) -> None:
        """Keep the log a of an allocation that has no level of its own.

        It is read before the bounds: the mean of β held by a bound would lie on one side of the level however far the
        centre went, and the centre would go on for as long as the level stays there.
        """
        if not self.allocation.levels_itself and self.training and torch.is_grad_enabled():
            self._levels.add(log_ratio)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """That of the allocation, whose weight follows β."""
        return self.allocation.reshaped(shaping, beta, self._even * base)

    @property
    def _even(self) -> Tensor:
        return (-self.log_level).exp()

    def answers_seen(self, pair: PairReading) -> None:
        """Keep what an estimate from the answers is made of: −log π/π_ref, the mean of both answers."""
        moved = pair.chosen_logps + pair.rejected_logps - pair.reference_chosen_logps - pair.reference_rejected_logps
        self._answers.add(-0.5 * moved)

    @torch.no_grad()
    def step_taken(self, summed: Callable[[Tensor], Tensor], limits: tuple[float, float]) -> None:
        """Move the level by the answers of the step, and the centre by what the head said of its pairs."""
        mean, kl = self._levels.taken(summed), self._answers.taken(summed)
        if mean is not None:
            self.centre.lerp_(mean.to(self.centre.dtype), _CENTRING)
        if kl is not None:
            self._ascend(kl, limits, steps=1)
        self.allocation.step_taken(summed, limits)

    @torch.no_grad()
    def kl_measured(self, nats: float, limits: tuple[float, float]) -> None:
        """Move the level by an estimate from samples."""
        assert self.kl_sampling is not None
        self._ascend(self.kl.new_tensor(nats), limits, steps=self.kl_sampling.every)

    def _ascend(self, kl: Tensor, limits: tuple[float, float], *, steps: int) -> None:
        average = self.kl.lerp(kl.to(self.kl.dtype), 1 - KEPT["answers" if self.kl_sampling is None else "samples"])
        self.log_level.copy_(self.ascent.moved(self.log_level, average, self.kl, limits=limits, steps=steps))
        self.kl.copy_(average)

    def log_metrics(self, initial_beta: float) -> dict[str, Tensor]:
        """The level of β and the moving average of the KL."""
        return {"beta/base": initial_beta * self.log_level.exp(), "kl/estimate": self.kl.clone()}
