"""The best temperature of a pair: what minimises τ·(−log σ(u/τ)) + R(τ) over [τ₀, τ_max] for a given u = β₀·h.

Its derivative is g(τ) = H(σ(u/τ)) + R′(τ) with H the binary entropy (nats), R′ = ρ − log 2 for the linear and
2ρτ − log 2 for the quadratic regulariser. g grows with τ, so there is one optimum, and it hangs on |u| alone.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from betahead.beta.perspective import Regulariser

_LOG_2 = math.log(2.0)
_HALVINGS = 60
_SMALL = 1e-6  # of the released code


def _entropy_at(z: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """H(σ(z)), nats."""
    return z * torch.sigmoid(-z) - logsigmoid(z)


def saturation(rho: float) -> float:
    """k > 0 with H(σ(k)) = log 2 − ρ: the scaled margin at which the linear regulariser holds a pair.

    Args:
        rho: in (0, log 2).

    Returns:
        0.943 at ρ = 0.1; it grows without bound towards log 2.

    Source:
        Derived from Hong et al. 2024, equation 4, https://arxiv.org/abs/2406.02764.
    """
    low, high = 0.0, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        entropy = math.log1p(math.exp(-middle)) + middle / (1 + math.exp(min(middle, 700.0)))
        low, high = (middle, high) if entropy > _LOG_2 - rho else (low, middle)
    return (low + high) / 2


def best_tau(
    u: Float[Tensor, " pairs"], *, regulariser: Regulariser, rho: float, bounds: tuple[float, float]
) -> Float[Tensor, " pairs"]:
    """The optimum: |u|/k clipped to the bounds for the linear regulariser, the root of g for the quadratic one.

    Args:
        u: β₀·h.
        regulariser: `linear` or `quadratic`.
        rho: ρ > 0, below log 2 for `linear`.
        bounds: (τ₀, τ_max), τ₀ > 0.

    Source:
        Derived from Hong et al. 2024, equations 4 and 6, https://arxiv.org/abs/2406.02764.
    """
    least, most = bounds
    if regulariser == "linear":
        return (u.abs() / saturation(rho)).clamp(least, most)
    low, high = torch.full_like(u, least), torch.full_like(u, most)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _entropy_at(u.abs() / middle) + 2.0 * rho * middle < _LOG_2
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def newton_tau(
    u: Float[Tensor, " pairs"], *, regulariser: Regulariser, rho: float, bounds: tuple[float, float], steps: int = 5
) -> Float[Tensor, " pairs"]:
    """What projected Newton steps from τ = 1 make of it, as the released code takes them.

    For ρ ≥ 0.3 they may go to and fro between the bounds instead of converging; `best_tau` does not.

    Args:
        u: β₀·h.
        regulariser: `linear` or `quadratic`.
        rho: ρ > 0.
        bounds: (τ₀, τ_max).
        steps: how many; the released code takes 5.

    Source:
        Hong et al. 2024, algorithm 1, https://arxiv.org/abs/2406.02764, with the 1e-6 of the released code.
    """
    tau = torch.ones_like(u)
    for _ in range(steps):
        chance = torch.sigmoid(u / tau)
        slope = rho - (2.0 * chance + _SMALL).log() + (1.0 - chance) * u / tau
        curve = u.square() / tau.pow(3) * chance * (1.0 - chance)
        if regulariser == "quadratic":
            slope, curve = slope - rho + 2.0 * rho * tau, curve + 2.0 * rho
        tau = (tau - slope / curve.clamp(min=_SMALL)).clamp(*bounds)
    return tau
