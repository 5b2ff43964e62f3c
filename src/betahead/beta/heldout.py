"""Held-out learning: β follows the derivative that one step of the policy has on the loss of held-out pairs.

The policy's row is (β₀/β)·(−log σ(β·h)), so its gradient is c·∇h with c = −β₀·σ(−βh). A step from θ to θ′ by
g = mean c_i·∇h_i depends on β_i through c_i alone. Hence, with P = −dθ′/dg, entry by entry,

    dL(θ′)/dβ_i = −(1/N)·(∂c_i/∂β_i)·D_w h_i,    w = P·∇L(θ′),

and D_w h_i, the derivative of a margin along w, is a matter of two forward passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

Level = float | Float[Tensor, "..."]
"""β₀, or where a budget has moved it; one for all pairs or one for each."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How the derivative is estimated.

    Args:
        share: of the training prompts, held out for it; in (0, 0.5).
        pairs: held-out pairs of an estimate over all ranks; all of them when there are fewer.
        every: optimizer steps from one estimate to the next; between them the head stands still.
    """

    share: float = 0.1
    pairs: int = 8
    every: int = 1


def held_out_loss(margin: Float[Tensor, " pairs"], level: Level) -> Float[Tensor, " pairs"]:
    """−log σ(β₀·h), what the held-out pairs are scored with.

    β₀ is a constant: with β(x) in it the head could lower the loss by scaling, as in joint learning.

    Args:
        margin: h, nats.
        level: β₀ > 0, a constant.

    Returns:
        Values > 0; log 2 at h = 0.

    Source:
        Rafailov et al. 2023, equation 7, https://arxiv.org/abs/2305.18290.
    """
    return -logsigmoid(level * margin)


def coefficient(
    beta: Float[Tensor, " pairs"], margin: Float[Tensor, " pairs"], level: Level
) -> Float[Tensor, " pairs"]:
    """c = −β₀·σ(−βh), the derivative of the training row (β₀/β)·(−log σ(βh)) by h.

    Returns:
        Values in (−β₀, 0); −β₀/2 at h = 0 whatever β is.

    Source:
        docs/theory.md, section 7.
    """
    return -level * torch.sigmoid(-beta * margin)


def coefficient_slope(
    beta: Float[Tensor, " pairs"], margin: Float[Tensor, " pairs"], level: Level
) -> Float[Tensor, " pairs"]:
    """∂c/∂β = β₀·h·σ(βh)·σ(−βh): how β changes the push on a margin.

    Label smoothing leaves it as it is, because both of its terms have the same second derivative.

    Returns:
        Values with the sign of h; 0 at h = 0, where β has no say.

    Source:
        docs/theory.md, section 7.
    """
    z = beta * margin
    return level * margin * torch.sigmoid(z) * torch.sigmoid(-z)


def beta_slopes(
    beta: Float[Tensor, " pairs"],
    margin: Float[Tensor, " pairs"],
    along: Float[Tensor, " pairs"],
    *,
    level: Level,
    pairs: int | Tensor,
) -> Float[Tensor, " pairs"]:
    """dL(θ′)/dβ_i = −(1/N)·(∂c_i/∂β_i)·D_w h_i of every pair of a step.

    Args:
        beta: β of the pairs.
        margin: h, nats, at the weights before the step.
        along: D_w h there, with w = P·∇L(θ′) and P = −dθ′/dg, how far a unit of gradient moves each weight.
        level: β₀ > 0.
        pairs: N, those of the whole step on all ranks.

    Returns:
        One value per pair, detached.

    Source:
        docs/theory.md, section 7. One step looked ahead, and perturbed passes in place of a second
        derivative: Liu et al. 2019, DARTS, equations 7 and 8, https://arxiv.org/abs/1806.09055; per example: Ren et
        al. 2018, Learning to Reweight Examples, https://arxiv.org/abs/1803.09050.
    """
    return (-coefficient_slope(beta, margin, level) * along / pairs).detach()


def chained(
    beta: Float[Tensor, " pairs"], slopes: Float[Tensor, " pairs"], parameters: Sequence[nn.Parameter]
) -> list[Tensor]:
    """The slopes carried on from β to the parameters that it was computed with; their `grad` is left alone.

    Args:
        beta: with its graph.
        slopes: of a loss by β.
        parameters: of the head.

    Returns:
        One gradient per parameter, zero where β does not depend on it.

    Source:
        The chain rule.
    """
    return list(torch.autograd.grad(beta, parameters, slopes, materialize_grads=True))
