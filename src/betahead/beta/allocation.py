"""One budget of target margin, shared out over pairs so that the clear ones get more: the optimum of γ-PO's objective.

F(p) = mean(−log σ(g_i − γ₀·n·p_i)) + τ·KL(p ‖ uniform) is strictly convex on the shares p, so it has one optimum. With
r_i = n·p_i its derivative γ₀·σ(γ₀·r_i − g_i) + τ·log r_i grows with r_i and is there the same for every pair; and the
mean of the r_i that have a derivative λ grows with λ. So both can be bracketed, whatever γ₀ and τ are.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_ROUNDS, _PARTS, _HALVINGS = 5, 16, 40


def allocation(
    gaps: Float[Tensor, " pool"], counted: Bool[Tensor, " pool"], *, gamma: float, temperature: float
) -> Float[Tensor, " pool"]:
    """The target margin of each pair, γ_i = γ₀·n·p_i with mean γ₀, p the argmin of F.

    The larger a gap, the larger γ_i. Five rounds narrow the bracket of λ to its 16th each, and mix the shares at its
    ends so that their mean is γ₀: nothing is asked of the device, and no step has a size that could be too long.

    Args:
        gaps: g_i = β·h_i.
        counted: the entries that are pairs; n is their number, and the others change nothing.
        gamma: γ₀ ≥ 0.
        temperature: τ > 0.

    Source:
        Sun et al. 2025, equation 10, https://arxiv.org/abs/2506.03690; the optimum: derived from it.
    """
    share = counted.to(gaps.dtype) / counted.sum()
    even = gamma * torch.sigmoid(gamma - gaps)  # the derivative at equal shares
    low = even.where(counted, torch.inf).min()
    high = even.where(counted, -torch.inf).max()
    steps = torch.linspace(0, 1, _PARTS + 1, dtype=gaps.dtype, device=gaps.device)
    # No pair can have more than all: n, and twice that leaves room to be seen.
    most = (2.0 * counted.sum()).log().to(gaps.dtype)
    for _ in range(_ROUNDS):
        levels = low.lerp(high, steps)
        means = _ratios(levels, gaps, most, gamma=gamma, temperature=temperature) @ share
        above = (means < 1.0).sum().clamp(1, _PARTS)
        low, high = levels.index_select(0, torch.stack([above - 1, above])).unbind()
    ends = _ratios(torch.stack([low, high]), gaps, most, gamma=gamma, temperature=temperature)
    least, largest = (ends @ share).unbind()
    missing = (1.0 - least) / (largest - least).clamp(min=torch.finfo(gaps.dtype).tiny)
    return gamma * ends[0].lerp(ends[1], missing.clamp(0.0, 1.0))


def _ratios(
    levels: Float[Tensor, " levels"],
    gaps: Float[Tensor, " pool"],
    most: Float[Tensor, ""],
    *,
    gamma: float,
    temperature: float,
) -> Float[Tensor, "levels pool"]:
    """r of every pair at every λ, by halving an interval of log r in which the derivative meets λ."""
    # 0 ≤ γ₀·σ ≤ γ₀ leaves log r between these two.
    levels = levels[:, None]
    log_ratio = ((levels - gamma) / temperature).expand(-1, len(gaps))
    step = torch.minimum(levels / temperature, most) - log_ratio
    for _ in range(_HALVINGS):
        step = 0.5 * step
        tried = log_ratio + step
        slope = gamma * torch.sigmoid(gamma * tried.exp() - gaps) + temperature * tried
        log_ratio = torch.where(slope < levels, tried, log_ratio)
    return log_ratio.exp()
