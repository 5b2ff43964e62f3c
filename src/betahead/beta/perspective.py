"""Perspective learning: policy and head descend one function in which β only says when a pair stops pushing.

With τ = β₀/β and u = β₀·h, F(u, τ) = τ·(−log σ(u/τ)) + R(τ): the policy descends it through u, the head through τ.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Regulariser = Literal["quadratic", "linear"]

Rho = float | Float[Tensor, " pairs"]

_LOG_2 = math.log(2.0)


def quadratic(tau: Float[Tensor, " pairs"], rho: Rho) -> Float[Tensor, " pairs"]:
    """R(τ) = ρτ² − τ·log 2: one interior optimum, τ* = (log 2 − H(p))/(2ρ) and u* = τ*·logit p.

    p is the probability that the preferred answer wins and H its binary entropy (nats), so β* = β₀/τ* is inversely
    proportional to the information that a prompt's labels carry.

    Args:
        tau: τ = β₀/β > 0.
        rho: ρ > 0, one for all pairs or one for each; 2ρβ₀ is the one scale that is left.

    Source:
        Hong et al. 2024, Adaptive Preference Scaling, the quadratic variant, https://arxiv.org/abs/2406.02764; the
        closed form: docs/theory.md.
    """
    return rho * tau.square() - _LOG_2 * tau


def linear(tau: Float[Tensor, " pairs"], rho: Rho) -> Float[Tensor, " pairs"]:
    """R(τ) = (ρ − log 2)·τ: F is homogeneous of degree one, F(cu, cτ) = c·F(u, τ), so no interior optimum exists.

    Given u, the best τ has H(σ(u/τ)) = log 2 − ρ; given enough steps τ drifts to a bound.

    Args:
        tau: τ = β₀/β > 0.
        rho: 0 < ρ < log 2, one for all pairs or one for each.

    Source:
        Hong et al. 2024, equation 4, https://arxiv.org/abs/2406.02764.
    """
    return (rho - _LOG_2) * tau


REGULARISERS: Mapping[Regulariser, Callable[[Tensor, Rho], Tensor]] = MappingProxyType(
    {"quadratic": quadratic, "linear": linear}
)
