"""What rules that decide by the whole batch share: the pairs of all ranks, and settings by their arguments' names."""

import inspect
from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from betahead.beta.rule import BetaRule, Need, Reads


def _alone(of: Tensor) -> Tensor:
    return of


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
