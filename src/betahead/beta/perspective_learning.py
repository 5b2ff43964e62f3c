"""Perspective learning: the regularised F(u, τ) as what policy and head descend."""

import math
from dataclasses import replace
from typing import Any, ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.head_settings import number, one_of
from betahead.beta.learning import Base, LearningMode
from betahead.beta.perspective import REGULARISERS, Regulariser
from betahead.types import Shaping


class PerspectiveLearning(LearningMode):
    """Weight τ = β₀/β, attached, and penalty R(τ): β sets when a pair stops pushing, not how hard it starts.

    With label smoothing ε the p of its optimum is p(1 − ε) + (1 − p)ε.

    Args:
        regulariser: `quadratic` (default) or `linear`.
        rho: ρ > 0; default 0.1. Below log 2 for `linear`.

    Source:
        Hong et al. 2024, https://arxiv.org/abs/2406.02764, with their τ per pair amortised by the head.
    """

    kind: ClassVar[str] = "perspective"
    own: ClassVar[tuple[str, ...]] = ("regulariser", "rho")
    # F = τ·link(u/τ) + R(τ) has its closed form, and its interior optimum, for the logistic loss alone.
    links = frozenset({"sigmoid"})

    def __init__(self, *, regulariser: Regulariser | None = None, rho: float | None = None) -> None:
        super().__init__()
        one_of("learning.regulariser", regulariser or "quadratic", get_args(Regulariser))
        self.regulariser: Regulariser = regulariser or "quadratic"
        is_linear = self.regulariser == "linear"
        wanted = "in (0, log 2) with the linear regulariser" if is_linear else "a positive number"
        most = math.log(2.0) if is_linear else math.inf
        self.rho = number("learning.rho", 0.1 if rho is None else rho, wanted, 0, most, inside=False)
        self.levels_itself = not is_linear

    @property
    def settings(self) -> dict[str, Any]:
        """R and ρ."""
        return {"regulariser": self.regulariser, "rho": self.rho}

    def bounds(self, initial_beta: float) -> tuple[float, float]:
        """Absolute ones: the optimum is β₀·2ρ/(log 2 − H(p)), which may be far from β₀."""
        return 1e-3, 30.0

    def shaping(self, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """β with its weight and penalty."""
        tau = base / beta
        penalty = REGULARISERS[self.regulariser](tau, self.rho)
        return Shaping(beta=beta, target=torch.zeros_like(beta), weight=tau, penalty=penalty)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """The weight follows β."""
        return replace(shaping, beta=beta, weight=base / beta)
