"""A KL budget in tabular worlds: the level of β follows how far the policy goes, until it goes as far as it may."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from betahead.beta.dual_ascent import DualAscent
from betahead.types import Shaping
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_learning import (
    BOUNDS,
    BetaCourse,
    BetaLearning,
    PerConfig,
    PerPair,
    PerPrompt,
    PerRun,
    above_zero,
    at_least_zero,
    rising,
    some_configs,
)
from betahead.worlds.tabular_pairs import TabularPairs


@dataclass(frozen=True, kw_only=True)
class BudgetBeta(BetaLearning):
    """The level log β₀ by dual ascent on KL(π‖π_ref) = target; how β differs between prompts is another way's business.

    The KL is exact: the mean over the train prompts, of the policy that begins a step. It is read before every step.

    The loss is multiplied by the first level over that of the step, which leaves its optimum where it is. AdamW
    remembers how large gradients were: otherwise it would slow down with every fall of β and speed up with every rise.

    A budget is reached where the policy can get there: not by a learning rate too small for the steps that there are,
    nor by one whose single steps go further.

    Args:
        target_kl: nats per answer; > 0.
        allocation: the way of setting β that finds this level in the place of its β₀.
        rate: of log β₀ per step; > 0. Steps are few and the KL is exact, hence a quick ascent.
        horizon: steps ahead whose KL the level answers to, if the policy goes on at its pace; ≥ 0.
        bounds: smallest and largest level.

    Source:
        `betahead.beta.dual_ascent`.
    """

    target_kl: PerConfig
    allocation: BetaLearning
    rate: float = 0.3
    horizon: float = 27.0
    bounds: tuple[float, float] = BOUNDS

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: names the field and the value.
        """
        above_zero("target_kl", self.target_kl)
        above_zero("rate", self.rate)
        at_least_zero("horizon", self.horizon)
        rising(self.bounds)

    def begin(self, world: TabularWorld, configs: int) -> BetaCourse:
        """The allocation with a level that is moved."""
        return _Course(self, self.allocation.begin(world, configs))

    def configs(self, chosen: slice) -> "BudgetBeta":
        """The same for some of the configurations."""
        return replace(some_configs(self, chosen), allocation=self.allocation.configs(chosen))

    def divided(self, world: TabularWorld, pairs: TabularPairs) -> tuple[TabularPairs, TabularPairs | None]:
        """As the allocation divides them."""
        return self.allocation.divided(world, pairs)


class _Course(BetaCourse):
    """A budget in the course of one training."""

    reads_kl = True

    def __init__(self, rule: BudgetBeta, of: BetaCourse) -> None:
        self.of = of
        self.per, self.learning_rate = of.per, of.learning_rate
        self.loss, self.label_smoothing = of.loss, of.label_smoothing
        target = torch.as_tensor(rule.target_kl, dtype=torch.float64).view(-1, 1)
        self.ascent = DualAscent(target=target, rate=rule.rate, horizon=rule.horizon)
        self.limits = (math.log(rule.bounds[0]), math.log(rule.bounds[1]))
        self.start: Tensor | None = None
        self.before = torch.zeros(())
        self.scale = torch.ones(())

    def next_level(self, level: PerPrompt, kl: PerRun) -> PerPrompt:
        read = kl[..., None].expand_as(level)
        start = level if self.start is None else self.start
        moved = self.ascent.moved(self.of.next_level(level, kl), read, self.before.expand_as(read), limits=self.limits)
        self.start, self.before, self.scale = start, read, (start - moved).mean(-1, keepdim=True).exp()
        return moved

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        return self.of.held(log_beta, level)

    def acting(self, log_beta: PerPrompt) -> PerPrompt:
        return self.of.acting(log_beta)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        shaping = self.of.shaping(log_beta, level, margin)
        scale = self.scale.expand_as(log_beta).flatten()
        return replace(shaping, weight=scale * shaping.weight, penalty=scale * shaping.penalty)
