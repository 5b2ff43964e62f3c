"""ε-DPO: a pair gets a smaller β where that would rank it more clearly, and a larger one where that would."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.head_settings import checked_bounds, number
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping


class PerturbedBeta(BetaRule):
    """β_i = β̄ / (1 + ε·k_i), with k_i ∈ {−1, 0, 1} and β̄ moved by the mean of k over every step.

    The policy of a smaller β is estimated by moving the policy's logits away from the reference's, f + ε·(f − f_ref),
    that of a larger one by moving them towards it. k = 1 where log π(y_w) − log π(y_l) grows from the larger over the
    present to the smaller β, −1 where it falls, 0 where it does neither, such as where policy and reference are the
    same. After every optimizer step β̄ ← β̄ / (1 + ε·mean k).

    Args:
        initial_beta: β̄ before the first step, > 0.
        perturbation: ε in (0, 1).
        bounds: (low, high) that hold β̄; None lets it drift, and the trainer reports when it has left a factor of 10.

    Raises:
        ConfigError: for a value out of range.

    Source:
        Lee et al. 2025, KL Penalty Control via Perturbation, https://arxiv.org/abs/2502.13177; the update of β̄ as in
        the authors' code, which equals that of the paper's algorithm to first order in ε.

    Deviates:
        Bounds, which neither has. Where logits are equal to the last bit, k is 0 whatever rounding does.
    """

    kind: ClassVar[str] = "epsilon_dpo"
    reads: ClassVar[Reads] = "pair"
    card: ClassVar[MethodCard] = MethodCard(
        title="ε-DPO",
        formula=(
            "β_i = β̄ / (1 + ε·k_i), k_i = [z⁺ > z > z⁻] − [z⁺ < z < z⁻], z = log π(y_w) − log π(y_l)\n"
            "π± = softmax(f ± ε·(f − f_ref)), f the logits\n"
            "β̄ ← β̄ / (1 + ε·mean k) after every step"
        ),
        cost="a live reference, and both LM heads on the answers' tokens once more, without gradient",
        source="Lee et al. 2025, KL Penalty Control via Perturbation, https://arxiv.org/abs/2502.13177",
        deviates="optional bounds; the update of β̄ is that of the authors' code, equal to the paper's to first order.",
        checked="code",
    )
    of_reference: frozenset[Need] = frozenset({Need.PERTURBED})
    base: Tensor

    def __init__(
        self,
        initial_beta: float = 0.01,
        perturbation: float = 0.01,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.initial_beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
        self.perturbation = number("perturbation", perturbation, "in (0, 1)", 0, 1, inside=False)
        self._bounds = None if bounds is None else checked_bounds(bounds, self.initial_beta)
        self.drifts_from = self.initial_beta if bounds is None else None
        self._seen: Tensor | None = None
        self.register_buffer("base", torch.tensor(self.initial_beta))

    @property
    def needs(self) -> frozenset[Need]:
        """The margins of the two policies beside this one."""
        return frozenset({Need.PAIR, Need.PERTURBED})

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval of β: that of β̄, and one perturbation more."""
        if self._bounds is None:
            return None
        low, high = self._bounds
        return low / (1.0 + self.perturbation), high / (1.0 - self.perturbation)

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        bounds = None if self._bounds is None else list(self._bounds)
        return {"initial_beta": self.initial_beta, "perturbation": self.perturbation, "bounds": bounds}

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β of every pair; in training its steps are kept for `step_taken`."""
        assert features.pair is not None and features.pair.looser is not None and features.pair.tighter is not None
        steps = monotone_steps(features.pair.looser, features.pair.tighter).to(margin.dtype)
        if self.training and torch.is_grad_enabled():
            one = torch.stack([steps.sum(), steps.new_full((), len(steps))])
            self._seen = one if self._seen is None else self._seen + one
        return plain_shaping(margin, beta=self.base.to(margin.dtype) / (1.0 + self.perturbation * steps))

    @torch.no_grad()
    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Move β̄ by the mean of k over all pairs of the step, whatever ranks and passes they came in."""
        if self._seen is None:
            return
        total, pairs = summed(self._seen).unbind()
        base = self.base / (1.0 + self.perturbation * total / pairs)
        self.base.copy_(base if self._bounds is None else base.clamp(*self._bounds))
        self._seen = None

    def log_metrics(self) -> dict[str, Tensor]:
        """β̄."""
        return {"beta/base": self.base.detach()}


def monotone_steps(looser: Float[Tensor, " pairs"], tighter: Float[Tensor, " pairs"]) -> Int[Tensor, " pairs"]:
    """k: which way the margin grows along tighter, present and looser policy, all the way or not at all.

    Args:
        looser: z⁺ − z, what the margin gains with a smaller β.
        tighter: z⁻ − z, what it gains with a larger one.

    Returns:
        1 where z⁺ > z > z⁻, −1 where z⁺ < z < z⁻, 0 elsewhere.
    """
    return ((looser > 0) & (tighter < 0)).long() - ((looser < 0) & (tighter > 0)).long()
