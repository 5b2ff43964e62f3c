"""Optimizers whose learning rate is a tensor, so that every configuration of a stack has its own."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.worlds.tabular_runs import Training


class Descent(Protocol):
    """Something that moves a stack of parameters in place."""

    def step(self, gradient: Tensor, share: float) -> None:
        """Descend once, with the learning rate times `share`."""
        ...

    def moved(self, direction: Tensor, share: float) -> Tensor:
        """P·direction, with −P the derivative of the last step's change by its gradient; other statistics are held."""
        ...


class PlainDescent:
    """Gradient descent without momentum, with decoupled weight decay."""

    def __init__(self, parameter: Float[Tensor, "*any"], learning_rate: Tensor | float, weight_decay: float) -> None:
        self.parameter, self.learning_rate, self.weight_decay = parameter, learning_rate, weight_decay

    def step(self, gradient: Tensor, share: float) -> None:
        """Descend once, with the learning rate times `share`."""
        rate = self.learning_rate * share
        self.parameter.sub_(rate * (gradient + self.weight_decay * self.parameter))

    def moved(self, direction: Tensor, share: float) -> Tensor:
        """The direction times the learning rate."""
        return self.learning_rate * share * direction


class AdamW:
    """AdamW with the usual constants.

    Source:
        Loshchilov and Hutter 2019, Decoupled weight decay regularization, https://arxiv.org/abs/1711.05101.
    """

    def __init__(
        self,
        parameter: Float[Tensor, "*any"],
        learning_rate: Tensor | float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameter, self.learning_rate, self.weight_decay = parameter, learning_rate, weight_decay
        self.betas, self.eps = betas, eps
        self.first, self.second = torch.zeros_like(parameter), torch.zeros_like(parameter)
        self.taken = 0

    def step(self, gradient: Tensor, share: float) -> None:
        """Descend once, with the learning rate times `share`."""
        self.taken += 1
        slow, fast = self.betas[1], self.betas[0]
        self.first.mul_(fast).add_(gradient, alpha=1 - fast)
        self.second.mul_(slow).addcmul_(gradient, gradient, value=1 - slow)
        rate = self.learning_rate * share
        if self.weight_decay > 0:
            self.parameter.sub_(rate * self.weight_decay * self.parameter)
        # Both corrections of the start are numbers: applied to the step, they cost no pass over the parameters.
        start = (1 - slow**self.taken) ** 0.5
        spread = self.second.sqrt().add_(self.eps * start)
        self.parameter.sub_(torch.div(self.first, spread, out=spread).mul_(rate * (start / (1 - fast**self.taken))))

    def moved(self, direction: Tensor, share: float) -> Tensor:
        """The direction over the root of the second moment, times what of a gradient enters the step at once."""
        fast, slow = self.betas
        spread = (self.second / (1 - slow**self.taken)).sqrt() + self.eps
        return self.learning_rate * share * (1 - fast) / (1 - fast**self.taken) * direction / spread


def descent(training: Training, parameter: Float[Tensor, "*any"], learning_rate: Tensor | float) -> Descent:
    """The optimizer that a training names, for this parameter."""
    kind = AdamW if training.optimizer == "adamw" else PlainDescent
    return kind(parameter, training.rate * learning_rate, training.weight_decay)
