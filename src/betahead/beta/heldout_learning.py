"""Held-out learning as a way of learning: the policy's row, and what the trainer is asked for."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.head_settings import number, whole
from betahead.beta.heldout import HeldOut
from betahead.beta.learning import Base, LearningMode
from betahead.types import Shaping


class HeldOutLearning(LearningMode):
    """Weight β₀/β without a penalty, for the policy alone; the head gets its gradient from the trainer.

    The trainer takes some of the training prompts away and follows the derivative that the policy's step has on the
    loss of their pairs, −log σ(β₀·h). A loop of one's own that does not do so leaves the head as it is.

    Coupled features are refused. The row's derivative by β is −(β₀/β²)·H(σ(βh)), H the binary entropy: below 0 for
    every pair under either label, so that a policy that felt it would raise β without end and learn no preference by
    it; and what it would have to be given instead, the head's own derivative, is a learning rate smaller than the
    policy's gradient.

    Args:
        held_out_share: of the training prompts, in (0, 0.5); default 0.1.
        held_out_pairs: pairs of an estimate, over all ranks; default 8.
        held_out_every: optimizer steps from one estimate to the next; default 1.

    Gradient:
        Into the policy with β as a constant; into the head exactly zero, so that wrappers for many ranks see it used.

    Source:
        This package, docs/theory.md, section 7, with the sources of `beta_slopes`.
    """

    kind: ClassVar[str] = "heldout"
    own: ClassVar[tuple[str, ...]] = ("held_out_share", "held_out_pairs", "held_out_every")
    # The derivative of the step is written down for the logistic loss, smoothed or not.
    links = frozenset({"sigmoid"})
    levels_itself = True
    couples = False

    def __init__(
        self,
        *,
        held_out_share: float | None = None,
        held_out_pairs: int | None = None,
        held_out_every: int | None = None,
    ) -> None:
        super().__init__()
        share = 0.1 if held_out_share is None else held_out_share
        self.held_out = HeldOut(
            share=number("learning.held_out_share", share, "in (0, 0.5)", 0, 0.5, inside=False),
            pairs=whole("learning.held_out_pairs", 8 if held_out_pairs is None else held_out_pairs),
            every=whole("learning.held_out_every", 1 if held_out_every is None else held_out_every),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Share, pairs and steps."""
        return {f"held_out_{name}": getattr(self.held_out, name) for name in ("share", "pairs", "every")}

    def bounds(self, initial_beta: float) -> tuple[float, float]:
        """Absolute ones: held-out pairs hold β back, and what they ask for may be far from β₀."""
        return 1e-3, 30.0

    def shaping(self, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """β with its weight, both constants."""
        fixed = beta.detach()
        row = Shaping(beta=fixed, target=torch.zeros_like(fixed), weight=fixed, penalty=0.0 * beta)
        return self.reshaped(row, fixed, base)

    def reshaped(self, shaping: Shaping, beta: Float[Tensor, " pairs"], base: Base) -> Shaping:
        """The weight follows β."""
        return replace(shaping, beta=beta, weight=base / beta)
