"""No learning: the head stays as it starts, and β is a rule of perplexity."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.learning import Base, LearningMode
from betahead.types import Shaping


class FrozenLearning(LearningMode):
    """−log σ(β·h) with β = w·(log PPL)^p.

    Source:
        This package, docs/theory.md, section 2.
    """

    kind: ClassVar[str] = "none"
    trains = False
    levels_itself = True

    @property
    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    def shaping(self, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """β as it is."""
        zeros = torch.zeros_like(beta)
        return Shaping(beta=beta, target=zeros, weight=zeros + 1.0, penalty=zeros)
