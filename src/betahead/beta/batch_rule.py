"""What rules that decide by the whole batch share: the pairs of all ranks, and settings by their arguments' names."""

import inspect
from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.rule import BetaRule, Need, Reads
from betahead.errors import ConfigError
from betahead.types import Shaping


def _alone(of: Tensor) -> Tensor:
    return of


def whole_number(key: str, value: Any, wanted: str, least: int, most: int) -> int:
    """The value as an integer in [least, most].

    Raises:
        ConfigError: for anything else, True and 3.0 included.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"`beta.{key}` must be {wanted}, but is {value!r} instead.")
    return value


class BatchRule(BetaRule, ABC):
    """A rule that reads the batch: in training the pairs of all ranks, so that two ranks decide as one would.

    Every argument of a constructor is an attribute of the same name.

    Attributes:
        own: the part of a gathered tensor that belongs to the pairs of this rank; the identity on one.

    Source:
        Wu et al. 2024, https://arxiv.org/abs/2407.08639, gather the margins of a batch over ranks.
    """

    reads: ClassVar[Reads] = "batch"
    own: Callable[[Tensor], Tensor] = staticmethod(_alone)

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing but the margin."""
        return frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def everyone(self, of: Float[Tensor, " pairs"]) -> Float[Tensor, " everyone"]:
        """The same of all ranks, detached.

        In evaluation that of this rank alone: ranks need not evaluate at the same time, nor as many pairs.
        """
        return self.gathered(of.detach()) if self.training else of.detach()

    def mine(self, of: Float[Tensor, " everyone"]) -> Float[Tensor, " pairs"]:
        """What belongs to the pairs of this rank, of something that `everyone` gave."""
        return self.own(of) if self.training else of


def shaping(
    margin: Float[Tensor, " pairs"],
    *,
    beta: float | Tensor,
    target: float | Tensor = 0.0,
    weight: float | Tensor = 1.0,
) -> Shaping:
    """A shaping without penalty, every slot a vector over the pairs of the margin.

    Args:
        margin: h, for number, device and dtype of the pairs.
        beta: one number, or one for each pair; target and weight likewise.

    Source:
        The equation of this package, `losses/preference.py`.
    """
    zeros = torch.zeros_like(margin)
    return Shaping(beta=zeros + beta, target=zeros + target, weight=zeros + weight, penalty=zeros)
