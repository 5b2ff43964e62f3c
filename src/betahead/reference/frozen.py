"""The reference: the policy as it was before training, scored without gradient."""

from contextlib import nullcontext
from typing import cast

from peft import PeftModel
from torch import nn

from betahead.beta.rule import Need
from betahead.forward.layout import Kernel
from betahead.forward.modes import evaluating
from betahead.forward.roads import scores_without_gradient
from betahead.types import Pairs, ReferenceScores


class FrozenReference:
    """Scores of a model that does not learn.

    Args:
        model: a second model, or the policy itself: before training as it is, during training with its adapters off.
        adapters_off: score with the adapters of a PEFT model disabled, so that no second copy of the weights exists.
        wants_log_ppl: also score the prompts, for rules that read the reference's perplexity.
        wants_common: also score as many first tokens as both answers have, for losses that weigh the rest less.
        kernel: what carries the attention of packed batches out.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        adapters_off: bool = False,
        wants_log_ppl: bool = False,
        wants_common: bool = False,
        kernel: Kernel = "auto",
    ) -> None:
        self.model = model
        self.kernel: Kernel = kernel
        self.adapters_off = adapters_off
        self.wants_common = wants_common
        self.needs = frozenset({Need.LOG_PPL}) if wants_log_ppl else frozenset[Need]()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its scores, as a data set and a batch have them."""
        names = ("ref_chosen_logps", "ref_rejected_logps")
        names = (*names, "ref_log_ppl") if self.needs else names
        return (*names, "ref_chosen_common_logps", "ref_rejected_common_logps") if self.wants_common else names

    def scores(self, batch: Pairs) -> ReferenceScores:
        """The reference's log-probabilities of both answers, and of what else is wanted."""
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
        )
