"""Adaptive preference scaling: every pair gets the temperature that is best for its margin."""

import math
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.adaptive_temperature import best_tau, newton_tau
from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number, one_of
from betahead.beta.perspective import REGULARISERS, Regulariser
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.errors import ConfigError
from betahead.types import PromptFeatures, Shaping


class AdaptiveScaling(BetaRule):
    """β_i = β₀/τ_i with weight τ_i, where τ_i minimises τ·(−log σ(u/τ)) + R(τ) at u = β₀·h_i.

    Args:
        initial_beta: β₀ > 0.
        rho: ρ > 0; below log 2 = 0.693 for the linear regulariser.
        regulariser: `linear`, R = (ρ − log 2)·τ, or `quadratic`, R = ρτ² − τ·log 2.
        tau_min: τ₀ > 0, the smallest τ.
        tau_max: the largest, at least τ₀; where both are 1 the rule is plain DPO.
        solver: `exact`, or the five Newton steps of the released code, `newton`.

    Raises:
        ConfigError: for a value out of range.

    Gradient:
        Into the margin alone; τ is a constant, as at an optimum it may be.

    Source:
        Hong et al. 2024, equations 4 and 6, https://arxiv.org/abs/2406.02764.
    """

    kind: ClassVar[str] = "adaptive_scaling"
    reads: ClassVar[Reads] = "pair"
    links: frozenset[str] | None = frozenset({"sigmoid"})
    card: ClassVar[MethodCard] = MethodCard(
        title="Adaptive preference scaling",
        formula=(
            "u_i = β₀·h_i, τ_i = argmin over [τ₀, τ_max] of τ·(−log σ(u_i/τ)) + R(τ)\n"
            "R(τ) = (ρ − log 2)·τ (linear) or ρτ² − τ·log 2 (quadratic)\n"
            "linear: τ_i = |u_i|/k clipped, H(σ(k)) = log 2 − ρ\n"
            "β_i = β₀/τ_i, weight_i = τ_i, penalty_i = R(τ_i), a constant"
        ),
        cost="nothing",
        source="Hong et al. 2024, https://arxiv.org/abs/2406.02764",
        deviates=(
            "the optimum itself instead of five Newton steps, which go to and fro for ρ ≥ 0.3 (solver: newton); "
            "log σ instead of log(σ + 1e-6); the loss shows R(τ), which has no gradient"
        ),
        checked="code",
    )

    def __init__(
        self,
        initial_beta: float = 0.1,
        rho: float = 0.1,
        regulariser: Regulariser = "linear",
        tau_min: float = 0.1,
        tau_max: float = 5.0,
        solver: Literal["exact", "newton"] = "exact",
    ) -> None:
        super().__init__()
        self.initial_beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
        one_of("regulariser", regulariser, tuple(REGULARISERS))
        self.regulariser: Regulariser = regulariser
        if regulariser == "linear":
            self.rho = number("rho", rho, "in (0, log 2) with the linear regulariser", 0, math.log(2.0), inside=False)
        else:
            self.rho = number("rho", rho, "a positive number", 0, inside=False)
        self.tau_min = number("tau_min", tau_min, "a positive number", 0, inside=False)
        self.tau_max = number("tau_max", tau_max, "a positive number", 0, inside=False)
        if self.tau_max < self.tau_min:
            raise ConfigError(
                f"`beta.tau_max` must be at least `beta.tau_min`, {self.tau_min}, but is {self.tau_max} instead."
            )
        one_of("solver", solver, ("exact", "newton"))
        self.solver: Literal["exact", "newton"] = solver

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing but the margin."""
        return frozenset()

    @property
    def bounds(self) -> tuple[float, float]:
        """β₀/τ_max and β₀/τ₀: a large share of pairs there says that ρ decides little."""
        return self.initial_beta / self.tau_max, self.initial_beta / self.tau_min

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "initial_beta": self.initial_beta,
            "rho": self.rho,
            "regulariser": self.regulariser,
            "tau_min": self.tau_min,
            "tau_max": self.tau_max,
            "solver": self.solver,
        }

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β₀/τ, weight τ and penalty R(τ) of every pair."""
        solve = best_tau if self.solver == "exact" else newton_tau
        bounds = (self.tau_min, self.tau_max)
        u = self.initial_beta * margin.detach()
        return self._shaping(solve(u, regulariser=self.regulariser, rho=self.rho, bounds=bounds))

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"]) -> Shaping:
        """The shaping had β been this: τ is β₀/β."""
        return self._shaping(self.initial_beta / beta)

    def _shaping(self, tau: Float[Tensor, " pairs"]) -> Shaping:
        penalty = REGULARISERS[self.regulariser](tau, self.rho)
        return Shaping(beta=self.initial_beta / tau, target=torch.zeros_like(tau), weight=tau, penalty=penalty)
