"""Where an optimizer's next step leads, and how far a change of the gradient would move it there."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from betahead.errors import ConfigError


def check_foreseeable(optimizer: Optimizer) -> None:
    """Refuse an optimizer whose step is not written down here.

    Raises:
        ConfigError: with those that are.
    """
    inner = _unwrapped(optimizer)
    turned = [name for name in ("amsgrad", "maximize") if any(group.get(name) for group in inner.param_groups)]
    if type(inner) not in (SGD, Adam, AdamW) or turned:
        shown = type(inner).__name__ + "".join(f" with {name}" for name in turned)
        raise ConfigError(
            "`optim` must be SGD, Adam or AdamW of torch with learning.kind: heldout, which looks one step ahead, but "
            f"is {shown} instead; use adamw_torch."
        )


class NextStep:
    """The step that an optimizer is about to take, parameter by parameter; nothing is changed.

    Args:
        optimizer: of `check_foreseeable`.
        clipped: what the gradients have been multiplied with already, a number in (0, 1].
    """

    def __init__(self, optimizer: Optimizer, clipped: float | Tensor = 1.0) -> None:
        self._optimizer = _unwrapped(optimizer)
        self._clipped = clipped
        self._groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}

    def gradient(self, parameter: nn.Parameter) -> Tensor:
        """The gradient of the loss, before it was clipped."""
        return _gradient(parameter) / self._clipped

    def weights(self, parameter: nn.Parameter) -> Tensor:
        """The parameter after the step."""
        group, gradient = self._groups[id(parameter)], _gradient(parameter)
        weight, decay = parameter.detach(), group["weight_decay"]
        if isinstance(self._optimizer, SGD):
            return weight - group["lr"] * self._pushed(parameter, gradient + decay * weight)
        if self._decoupled(group):
            shrunk = weight * (1.0 - group["lr"] * decay)
        else:
            shrunk, gradient = weight, gradient + decay * weight
        mean, root = self._moments(parameter, gradient)
        return shrunk - group["lr"] * mean / (root + group["eps"])

    def gain(self, parameter: nn.Parameter) -> Tensor | float:
        """P = −dθ′/dg entry by entry, g the gradient before clipping; the factor of the clipping is held fixed.

        Adam, with a = (1 − β₁)/(1 − β₁ᵗ), b = (1 − β₂)/(1 − β₂ᵗ) and s = √v̂ + ε: P = η·(a/s − m̂·b·g/(√v̂·s²)), which
        is below 0 where more gradient would make the step shorter. At the first step, a sign, it is η·ε/s².
        """
        group = self._groups[id(parameter)]
        rate = group["lr"] * self._clipped
        if isinstance(self._optimizer, SGD):
            return rate * self._pushed(parameter, None)
        gradient = _gradient(parameter)
        if not self._decoupled(group):
            gradient = gradient + group["weight_decay"] * parameter.detach()
        first, second = group["betas"]
        step = self._step(parameter)
        enters = (1.0 - first) / (1.0 - first**step)
        _, root = self._moments(parameter, gradient)
        bent = torch.zeros_like(gradient)
        state = self._optimizer.state.get(parameter, {})
        if "exp_avg" in state:
            # a·v̂ − b·m̂·g, where a·b·g² cancels: only what is remembered is left.
            mean, square = first * state["exp_avg"], second * state["exp_avg_sq"]
            bent = enters * square - (1.0 - second) * gradient * mean / (1.0 - first**step)
            bent = torch.where(root > 0, bent / (1.0 - second**step) / root, 0.0)
        return rate * (enters * group["eps"] + bent) / (root + group["eps"]).square()

    def _pushed(self, parameter: nn.Parameter, gradient: Tensor | None) -> Any:
        """What SGD moves by, over the learning rate; for None what it gives a gradient of 1 beside an empty memory."""
        group = self._groups[id(parameter)]
        momentum = group["momentum"]
        remembered = cast("Tensor | None", self._optimizer.state.get(parameter, {}).get("momentum_buffer"))
        # The first gradient fills the memory undampened.
        kept = 1.0 if remembered is None else 1.0 - group["dampening"]
        given: Any = 1.0 if gradient is None else gradient
        if momentum == 0.0:
            return given
        memory = kept * given
        if gradient is not None and remembered is not None:
            memory = memory + momentum * remembered
        return given + momentum * memory if group["nesterov"] else memory

    def _moments(self, parameter: nn.Parameter, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Adam's first moment and the root of its second, both with bias correction."""
        group = self._groups[id(parameter)]
        state = self._optimizer.state.get(parameter, {})
        first, second = group["betas"]
        step = self._step(parameter)
        mean, square = (1.0 - first) * gradient, (1.0 - second) * gradient.square()
        if "exp_avg" in state:
            mean, square = mean + first * state["exp_avg"], square + second * state["exp_avg_sq"]
        return mean / (1.0 - first**step), (square / (1.0 - second**step)).sqrt()

    def _step(self, parameter: nn.Parameter) -> Any:
        """Which step of Adam it will be, counted from 1."""
        taken = self._optimizer.state.get(parameter, {}).get("step", 0)
        # A float32 power of β₂ would be seen in its difference from 1.
        return (taken.double() if isinstance(taken, Tensor) else taken) + 1

    def _decoupled(self, group: dict[str, Any]) -> bool:
        return isinstance(self._optimizer, AdamW) or bool(group.get("decoupled_weight_decay"))


def clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What clipping to `max_norm` multiplied gradients of that norm with."""
    return torch.clamp(max_norm / (norm + 1e-6), max=1.0)


@contextmanager
def put_back(parameters: Sequence[nn.Parameter]) -> Generator[list[Tensor]]:
    """Copies of the parameters, which are what they were at the end whatever happened inside, to the last bit."""
    kept = [p.detach().clone() for p in parameters]
    try:
        yield kept
    finally:
        with torch.no_grad():
            for parameter, weight in zip(parameters, kept, strict=True):
                parameter.copy_(weight)


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "a parameter without a gradient takes no step"
    return parameter.grad


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """The optimizer inside what `accelerate` makes of it."""
    return cast("Optimizer", getattr(optimizer, "optimizer", optimizer))
