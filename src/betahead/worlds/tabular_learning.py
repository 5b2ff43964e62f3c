"""How β is set while tabular policies are trained: held, or learned per prompt, per topic or for the whole world."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.beta.bounds import inward_clamp
from betahead.beta.perspective import REGULARISERS, Regulariser
from betahead.errors import ConfigError
from betahead.types import Shaping
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_pairs import TabularPairs

LearnedPer = Literal["prompt", "topic", "world"]
"""What has a log β of its own."""

PerPair = Float[Tensor, "seeds configs pairs"]
PerPrompt = Float[Tensor, "seeds configs prompts"]
PerRun = Float[Tensor, "seeds configs"]
PerConfig = float | Float[Tensor, " configs"]
"""A setting that all configurations share, or one for each."""

BOUNDS = (1e-3, 30.0)
"""Smallest and largest β, wide enough that one that is sought inside is found."""

_Settings = TypeVar("_Settings")


class BetaCourse(ABC):
    """How β is set in the course of one training of a stack of runs.

    Two numbers are kept apart: `log_beta`, the log β that a prompt has by now, and `level`, log β₀ of its
    configuration.
    """

    per: LearnedPer | None = None
    """What has a log β of its own; None where nothing is learned."""
    learning_rate: PerConfig = 0.0
    """Of log β."""
    loss: str = "sigmoid"
    """The link that pairs descend, a row of `betahead.losses.table.LOSSES` that reads the margin."""
    label_smoothing: float = 0.0
    """Of the link."""
    reads_kl: bool = False
    """Whether the level follows the policy's KL, so that `next_level` is called before every step."""

    def next_level(self, level: PerPrompt, kl: PerRun) -> PerPrompt:
        """log β₀ of a step, from that of the step before and the KL (nats per answer) of the policy that begins it."""
        return level

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        """log β within its bounds."""
        return log_beta

    def acting(self, log_beta: PerPrompt) -> PerPrompt:
        """The log β that the policy is trained with: that of the rule itself, unless this is a control."""
        return log_beta

    @abstractmethod
    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        """β, weight and penalty of the pairs of a step; the margin (nats) is detached."""


class BetaLearning(ABC):
    """A way of setting β: settings from which every training begins a course of its own."""

    @abstractmethod
    def begin(self, world: TabularWorld, configs: int) -> BetaCourse:
        """A course that remembers nothing yet."""

    @abstractmethod
    def configs(self, chosen: slice) -> Self:
        """The same for some of the configurations."""

    def divided(self, world: TabularWorld, pairs: TabularPairs) -> tuple[TabularPairs, TabularPairs | None]:
        """The pairs that policies are trained on, and those that are held out for what is learned of β, if any.

        Where some are, what is learned descends their loss one step ahead, and not that of the step itself.
        """
        return pairs, None


class PromptBeta(BetaLearning, BetaCourse):
    """A β of the prompt that needs no memory, so that it is its own course."""

    def begin(self, world: TabularWorld, configs: int) -> BetaCourse:
        """Itself."""
        return self

    def configs(self, chosen: slice) -> Self:
        """The same for some of the configurations."""
        return some_configs(self, chosen)


@dataclass(frozen=True, kw_only=True)
class HeldBeta(PromptBeta):
    """β stays where it starts: −log σ(β·h), or another link of the margin.

    Args:
        push: with `beta` the first push on a pair is proportional to β(x), so that β also acts as a weight; with `even`
            the loss is weighted by β₀/β(x), so that β(x) only sets where a pair stops.
        loss: the link.
        label_smoothing: of the link.
    """

    push: Literal["beta", "even"] = "beta"
    loss: str = "sigmoid"
    label_smoothing: float = 0.0

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        """β as it is, no penalty."""
        beta = log_beta.exp().flatten()
        weight = torch.ones_like(beta) if self.push == "beta" else (level - log_beta).exp().flatten()
        zeros = torch.zeros_like(beta)
        return Shaping(beta=beta, target=zeros, weight=weight, penalty=zeros)


@dataclass(frozen=True, kw_only=True)
class JointBeta(PromptBeta):
    """β descends −log σ(β·h) + λ·(mean log β/β₀)² together with the policy, within [β₀/widest, β₀·widest].

    Args:
        learning_rate: of log β; > 0.
        prior_weight: λ ≥ 0, on the level (the mean over the pairs of a step).
        widest: bound of β/β₀ and of β₀/β; > 1.
        per: what has a log β of its own.
    """

    learning_rate: PerConfig = 0.01
    prior_weight: float = 0.1
    widest: float = 10.0
    per: LearnedPer | None = "prompt"

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: names the field and the value.
        """
        above_zero("learning_rate", self.learning_rate)
        if not self.prior_weight >= 0:
            raise ConfigError(f"`prior_weight` must be at least 0, but is {self.prior_weight} instead.")
        if not self.widest > 1:
            raise ConfigError(f"`widest` must be above 1, but is {self.widest} instead.")

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        """log β within its bounds."""
        limit = math.log(self.widest)
        return level + inward_clamp(log_beta - level, -limit, limit)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        """β with the prior as penalty."""
        moved = (log_beta - level).mean(-1, keepdim=True)
        beta = log_beta.exp().flatten()
        return Shaping(
            beta=beta,
            target=torch.zeros_like(beta),
            weight=torch.ones_like(beta),
            penalty=(self.prior_weight * moved.square()).expand_as(log_beta).flatten(),
        )


@dataclass(frozen=True, kw_only=True)
class PerspectiveBeta(PromptBeta):
    """β descends F = τ·(−log σ(β·h)) + R(τ) with τ = β₀/β, together with the policy; β₀ is where β starts.

    Args:
        learning_rate: of log β; > 0.
        regulariser: R, a row of `betahead.beta.perspective.REGULARISERS`.
        rho: ρ > 0; below log 2 for the linear regulariser.
        bounds: smallest and largest β.
        per: what has a log β of its own.
    """

    learning_rate: PerConfig = 0.01
    regulariser: Regulariser = "quadratic"
    rho: PerConfig = 0.1
    bounds: tuple[float, float] = BOUNDS
    per: LearnedPer | None = "prompt"

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: names the field and the value.
        """
        above_zero("learning_rate", self.learning_rate)
        above_zero("rho", self.rho)
        if self.regulariser == "linear" and float(torch.as_tensor(self.rho, dtype=torch.float64).max()) >= math.log(2):
            raise ConfigError(f"`rho` must be below log 2 with the linear regulariser, but is {self.rho} instead.")
        rising(self.bounds)

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        """log β within its bounds."""
        return within(self.bounds, log_beta)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        """β with weight τ, attached, and penalty R(τ)."""
        beta = log_beta.exp().flatten()
        tau = (level - log_beta).exp().flatten()
        rho = self.rho
        if isinstance(rho, Tensor):
            rho = rho[:, None].expand_as(log_beta).flatten()
        penalty = REGULARISERS[self.regulariser](tau, rho)
        return Shaping(beta=beta, target=torch.zeros_like(beta), weight=tau, penalty=penalty)


def within(bounds: tuple[float, float], log_beta: PerPrompt) -> PerPrompt:
    """log β with β held between its bounds, outside of which only what leads back moves it."""
    return inward_clamp(log_beta, math.log(bounds[0]), math.log(bounds[1]))


def groups_of(world: TabularWorld, per: LearnedPer) -> Int[Tensor, " prompts"]:
    """Which log β each train prompt reads, numbered from 0."""
    prompts = world.settings.train_prompts
    if per == "prompt":
        return torch.arange(prompts)
    return world.topic[:prompts] if per == "topic" else torch.zeros(prompts, dtype=torch.long)


def some_configs(settings: _Settings, chosen: slice) -> _Settings:
    """A dataclass of settings with those that are one for each configuration cut to some of them."""
    own = {name: value[chosen] for name, value in vars(settings).items() if isinstance(value, Tensor)}
    return cast("_Settings", replace(cast("Any", settings), **own))


def above_zero(field: str, value: PerConfig) -> None:
    """Refuse a setting that is not positive and finite for every configuration.

    Raises:
        ConfigError: names the field and the value.
    """
    given = torch.as_tensor(value, dtype=torch.float64)
    if not bool(((given > 0) & given.isfinite()).all()):
        raise ConfigError(f"`{field}` must be above 0, but is {_shown(value)} instead.")


def at_least_zero(field: str, value: PerConfig) -> None:
    """Refuse a setting that is negative or not finite for some configuration.

    Raises:
        ConfigError: names the field and the value.
    """
    given = torch.as_tensor(value, dtype=torch.float64)
    if not bool(((given >= 0) & given.isfinite()).all()):
        raise ConfigError(f"`{field}` must be at least 0, but is {_shown(value)} instead.")


def rising(bounds: tuple[float, float]) -> None:
    """Refuse bounds of β that hold nothing.

    Raises:
        ConfigError: names the bounds.
    """
    if not 0 < bounds[0] < bounds[1]:
        raise ConfigError(f"`bounds` must be two rising numbers above 0, but are {bounds} instead.")


def _shown(value: PerConfig) -> float | list[float]:
    return value.tolist() if isinstance(value, Tensor) else value
