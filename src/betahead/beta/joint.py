"""Joint learning: head and policy descend the same −log σ(β·h), with a prior that holds the level of β."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.head_settings import number, one_of
from betahead.beta.learning import Base, LearningMode
from betahead.beta.step_mean import StepMean
from betahead.types import Shaping

PriorOn = Literal["level", "each"]


class JointLearning(LearningMode):
    """−log σ(β·h) + λ·(mean log β/β₀)².

    The loss cannot identify the level of β, which the prior and the bounds hold.

    Args:
        prior_weight: λ ≥ 0; default 0.1.
        prior_on: the prior acts on the `level`, the mean log β, as the pairs of the step before showed it to
            `step_taken` (default), or on `each` pair.

    Source:
        This package, docs/theory.md, section 5.
    """

    kind: ClassVar[str] = "joint"
    own: ClassVar[tuple[str, ...]] = ("prior_weight", "prior_on")
    level: Tensor

    def __init__(self, *, prior_weight: float | None = None, prior_on: PriorOn | None = None) -> None:
        super().__init__()
        weight = 0.1 if prior_weight is None else prior_weight
        one_of("prior_on", prior_on or "level", get_args(PriorOn))
        self.prior_weight = number("prior_weight", weight, "at least 0", 0)
        self.prior_on: PriorOn = prior_on or "level"
        self._seen = StepMean()
        if self._pulls_the_level:
            self.register_buffer("level", torch.zeros(()))

    @property
    def settings(self) -> dict[str, Any]:
        """Weight and kind of the prior."""
        return {"prior_weight": self.prior_weight, "prior_on": self.prior_on}

    @property
    def _pulls_the_level(self) -> bool:
        return self.prior_weight > 0.0 and self.prior_on == "level"

    def shaping(self, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """β with the prior as penalty."""
        zeros = torch.zeros_like(beta)
        penalty = zeros
        if self.prior_weight > 0.0:
            log_ratio = (beta / base).log()
            penalty = self.prior_weight * (self._tangent(log_ratio) if self._pulls_the_level else log_ratio.square())
        return Shaping(beta=beta, target=zeros, weight=zeros + 1.0, penalty=penalty)

    def _tangent(self, log_ratio: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """The tangent of (mean log ratio)² at the level of the last step, as a sum over pairs.

        A square of a mean is no sum over pairs: cut a batch and it changes. Its tangent 2·m·s − m² is one, with m the
        level that the last optimizer step saw. The mean over pairs differs from the square by the square of what the
        level moved in one step, and m is no function of these pairs, so that the gradient has no part in which pairs
        of a small batch pull one another together.
        """
        if self.training and torch.is_grad_enabled():
            self._seen.add(log_ratio)
        return 2.0 * self.level * log_ratio - self.level.square()

    @torch.no_grad()
    def step_taken(self, summed: Callable[[Tensor], Tensor], limits: tuple[float, float]) -> None:
        """Take the mean log ratio of the step's pairs as the level that the prior pulls in the next step."""
        level = self._seen.taken(summed)
        if level is not None:
            self.level.copy_(level)
