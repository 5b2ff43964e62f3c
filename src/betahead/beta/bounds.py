"""Bounds that hold β without trapping it: outside them only the gradient that leads back inside passes."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class _InwardClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(value)
        ctx.low, ctx.high = low, high
        return value.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (value,) = ctx.saved_tensors
        outward = ((value > ctx.high) & (gradient < 0)) | ((value < ctx.low) & (gradient > 0))
        return gradient.masked_fill(outward, 0.0), None, None


def inward_clamp(value: Float[Tensor, "*any"], low: float, high: float) -> Float[Tensor, "*any"]:
    """The value held in [low, high], with the gradient of the identity wherever a descent step leads back inside.

    A plain clamp has gradient zero outside, so a β that once left its bounds never returns.

    Args:
        value: any shape.
        low: lower bound.
        high: upper bound, ≥ low.

    Returns:
        Values in [low, high].

    Gradient:
        Passes inside the bounds. Above `high` only a positive gradient passes (descent lowers the value), below `low`
        only a negative one.

    Source:
        The projected-gradient view of box constraints: Bertsekas 1976, https://doi.org/10.1109/TAC.1976.1101194.
    """
    held = _InwardClamp.apply(value, low, high)
    assert isinstance(held, Tensor)
    return held


def beta_within(
    log_ratio: Float[Tensor, "*any"], initial_beta: float, bounds: tuple[float, float]
) -> tuple[Float[Tensor, "*any"], Bool[Tensor, "*any"]]:
    """β = β₀·e^(log ratio) held in its bounds to the last bit, and where they hold it back.

    Args:
        log_ratio: log β/β₀.
        initial_beta: β₀, inside the bounds.
        bounds: (low, high).

    Gradient:
        That of `inward_clamp`.

    Source:
        See `inward_clamp`.
    """
    low, high = bounds
    log_low, log_high = math.log(low / initial_beta), math.log(high / initial_beta)
    beta = initial_beta * inward_clamp(log_ratio, log_low, log_high).exp()
    # The exponential of a bound can miss it by one unit in the last place; the difference is exact.
    beta = beta + (beta.clamp(low, high) - beta).detach()
    return beta, (log_ratio <= log_low) | (log_ratio >= log_high)
