"""A beta rule inside a control, and the placebo: what is left of a gain when β no longer belongs to its prompt."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from betahead.beta.card import MethodCard
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping


def control_card(title: str, formula: str) -> MethodCard:
    """The card of a control."""
    return MethodCard(
        title=f"Control: {title}",
        formula=formula,
        cost="that of the rule inside",
        source="this package",
        checked="",
    )


class ControlledBeta(BetaRule):
    """Another rule, whose β reaches the policy changed.

    The rule inside learns from −log σ of its own β on its own pairs, as without the control; the policy feels the
    changed β only. Were the rule trained through the changed β, a β that pair x lends to pair y would learn what y
    needs, and the control would be a relabelled rule. So at every step the rule's β is an answer to the prompts'
    margins (those of the control's policy), and the policy gets that β in a form that has lost what is controlled for.

    Statistics and order are those of the pairs that one process trains on; evaluation moves neither.

    Args:
        of: the rule, not in use elsewhere.

    Gradient:
        Into the margin with β, target and weight as constants; into the rule with the margin as a constant. The second
        travels in the penalty, whose value stays that of the rule.

    Source:
        This package; a placebo keeps everything of a treatment but what is said to work.
    """

    reads: ClassVar[Reads] = "batch"

    def __init__(self, of: BetaRule) -> None:
        super().__init__()
        self.of = of
        self.couple, self.ppl_from, self.ppl_tokens = of.couple, of.ppl_from, of.ppl_tokens
        self.learning_rate, self.kl_sampling, self.held_out = of.learning_rate, of.kl_sampling, of.held_out
        self.columns, self.positive, self.of_reference = of.columns, of.positive, of.of_reference
        self.column_remedy = of.column_remedy
        self.margin_of, self.moves_target, self.weighs = of.margin_of, of.moves_target, of.weighs
        self.perturbation, self.drifts_from, self.smooths = of.perturbation, of.drifts_from, of.smooths
        # The rule's own loss is written out here, for the logistic link.
        self.links = frozenset({"sigmoid"})

    @property
    def needs(self) -> frozenset[Need]:
        """What the rule needs."""
        return self.of.needs

    @property
    def settings(self) -> dict[str, Any]:
        """The rule inside by kind and settings."""
        return {"of": {"kind": self.of.kind, "settings": self.of.settings}}

    def build(self, hidden_size: int, *, seed: int) -> None:
        """Build the rule."""
        self.of.build(hidden_size, seed=seed)

    def calibrate(self, log_ppl: Float[Tensor, " prompts"]) -> None:
        """Calibrate the rule."""
        self.of.calibrate(log_ppl)

    def calibrate_entropy(self, entropy: Float[Tensor, " pairs"]) -> None:
        """Calibrate the rule."""
        self.of.calibrate_entropy(entropy)

    def kl_measured(self, nats: float) -> None:
        """Tell the rule."""
        self.of.kl_measured(nats)

    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Tell the rule."""
        self.of.step_taken(summed)

    def log_metrics(self) -> dict[str, Tensor]:
        """Those of the rule."""
        return self.of.log_metrics()

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The changed shaping, with the rule's own loss as the gradient of the penalty."""
        still = margin.detach()
        own = self.of(features, still)
        learns = own.penalty - own.weight * logsigmoid(own.beta * (still - own.target))
        with torch.no_grad():
            changed = self.changed(own)
        return replace(changed, penalty=own.penalty.detach() + (learns - learns.detach()))

    @abstractmethod
    def changed(self, own: Shaping) -> Shaping:
        """What the policy gets in place of the rule's shaping."""


class PermutedBeta(ControlledBeta):
    """The placebo: every pair gets the β, target and weight of the pair before it.

    Pairs come in random order, so that is a pair of another prompt; over a training the values are those of the rule,
    each one place late. The first pair of a batch gets those of the last pair of the batch before.
    """

    kind: ClassVar[str] = "permuted"
    card: ClassVar[MethodCard] = control_card("permuted β", "β_i = β of the pair before, of another prompt")
    last: Tensor

    def __init__(self, of: BetaRule) -> None:
        super().__init__(of)
        self.register_buffer("last", torch.full((3,), torch.nan))

    def changed(self, own: Shaping) -> Shaping:
        """The shaping of the pairs before; the first pair of all gets that of the last in its batch."""
        given = torch.stack([own.beta, own.target, own.weight])
        first = torch.where(self.last.isnan(), given[:, -1], self.last.to(given.dtype))
        beta, target, weight = torch.cat([first[:, None], given[:, :-1]], dim=1)
        if self.training:
            self.last.copy_(given[:, -1])
        return replace(own, beta=beta, target=target, weight=weight)
