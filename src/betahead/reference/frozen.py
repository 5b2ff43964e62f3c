"""The reference: the policy as it was before training, scored without gradient."""

from contextlib import nullcontext
from typing import Any, cast

from peft import PeftModel
from torch import Tensor, nn

from betahead.beta.rule import BetaRule, Need
from betahead.forward.layout import Kernel
from betahead.forward.logit_head import LogitHead, logit_head_of
from betahead.forward.modes import evaluating
from betahead.forward.roads import scores_without_gradient
from betahead.forward.shared import base_of
from betahead.types import PairLogps, Pairs, ReferenceScores


class FrozenReference:
    """Scores of a model that does not learn.

    Args:
        model: a second model, or the policy itself: before training as it is, during training with its adapters off.
        adapters_off: score with the adapters of a PEFT model disabled, so that no second copy of the weights exists.
        wants_log_ppl: also score the prompts, for rules that read the reference's perplexity.
        wants_entropy: also give the entropy along the answers, for rules that read it.
        wants_states: also give the states along the answers, for rules that have the reference beside the policy.
        wants_common: also score as many first tokens as both answers have, for losses that weigh the rest less.
        kernel: what carries the attention of packed batches out.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        adapters_off: bool = False,
        wants_log_ppl: bool = False,
        wants_entropy: bool = False,
        wants_states: bool = False,
        wants_common: bool = False,
        kernel: Kernel = "auto",
    ) -> None:
        self.model = model
        self.kernel: Kernel = kernel
        self.adapters_off = adapters_off
        self.wants_common = wants_common
        wanted = {Need.LOG_PPL: wants_log_ppl, Need.ENTROPY: wants_entropy, Need.STATES: wants_states}
        self.needs = frozenset(need for need, wants in wanted.items() if wants)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its scores, as a data set and a batch have them."""
        names = ("ref_chosen_logps", "ref_rejected_logps")
        also = {Need.LOG_PPL: "ref_log_ppl", Need.ENTROPY: "ref_entropy"}
        names = (*names, *(name for need, name in also.items() if need in self.needs))
        return (*names, "ref_chosen_common_logps", "ref_rejected_common_logps") if self.wants_common else names

    @property
    def head(self) -> LogitHead | None:
        """Its LM head; None where that is the policy's own without adapters."""
        return None if self.adapters_off else logit_head_of(base_of(self.model))

    def scores(self, batch: Pairs) -> ReferenceScores:
        """The reference's log-probabilities of both answers, and what else is wanted."""
        adapters = cast("PeftModel", self.model).disable_adapter() if self.adapters_off else nullcontext()
        with evaluating(self.model), adapters:
            logps, features = scores_without_gradient(
                self.model, batch, self.needs, common=self.wants_common, kernel=self.kernel
            )
        return ReferenceScores(
            chosen_logps=logps.chosen,
            rejected_logps=logps.rejected,
            log_ppl=features.log_ppl,
            chosen_common_logps=logps.chosen_common,
            rejected_common_logps=logps.rejected_common,
            entropy=_entropy_of(logps),
            states=logps.sums.states,
        )


def wants_of(rule: BetaRule) -> dict[str, Any]:
    """The keywords of `FrozenReference` for what a rule reads of the reference."""
    return {
        "wants_log_ppl": rule.ppl_from == "reference",
        "wants_entropy": Need.ENTROPY in rule.of_reference,
        "wants_states": Need.PERTURBED in rule.of_reference,
    }


def _entropy_of(logps: PairLogps) -> Tensor | None:
    if logps.sums.entropy is None:
        return None
    chosen, rejected = logps.per_token(logps.sums.entropy)
    return (chosen + rejected) / 2.0
