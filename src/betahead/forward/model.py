"""Policy and beta rule as one module, so that every wrapper sees every parameter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel

from betahead.beta.rule import BetaRule, Need
from betahead.forward.agreed import agreed, reads_reference
from betahead.forward.layout import Kernel
from betahead.forward.logit_head import LogitHead
from betahead.forward.roads import pair_forward
from betahead.forward.shared import base_of
from betahead.forward.vocabulary import Perturbation
from betahead.losses.objective import Objective
from betahead.losses.on_ranks import Everyone
from betahead.losses.reward_shift import RewardShift
from betahead.types import PairLogps, PairReading, Pairs, PromptFeatures, ReferenceScores, Shaping, bundled

Policy = PreTrainedModel | PeftModel
T = TypeVar("T")


class PreferenceModel(nn.Module):
    """From a collated batch to the loss of every pair and what the log shows of it.

    Args:
        policy: the causal language model being trained, adapters included.
        rule: what decides β; its head must be built.
        objective: the loss, or several with weights; the rule's shaping is of the margin of its main loss.
        kernel: what carries the attention of packed batches out.

    Attributes:
        reference_head: the LM head of the reference that rules with `Need.PERTURBED` have beside the policy; None when
            that is the policy's own without adapters.
        everyone: gathers one value a pair over ranks in training, for losses that act on the whole pass; None on one.

    Raises:
        ConfigError: for a loss that does not go with the rule.
    """

    def __init__(
        self,
        policy: Policy,
        rule: BetaRule,
        *,
        objective: Objective | None = None,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        self.objective = agreed(objective or Objective(), rule)
        self.policy = policy
        self.rule = rule
        self.shift = RewardShift() if self.objective.has_shift else None
        self.kernel: Kernel = kernel
        self.reference_head: LogitHead | None = None
        self.everyone: Everyone | None = None

    @property
    def needs_reference(self) -> bool:
        """Whether a loss or the rule reads the reference."""
        return reads_reference(self.objective, self.rule)

    def step_taken(self, summed: Callable[[Tensor], Tensor]) -> None:
        """Tell rule and loss that all gradients of an optimizer step are there; see `BetaRule.step_taken`."""
        self.rule.step_taken(summed)
        if self.shift is not None:
            self.shift.step_taken(summed)

    def generate(self, *arguments: Any, **keywords: Any) -> Any:
        """What the policy generates, as `policy.generate` does."""
        return cast("Any", self.policy).generate(*arguments, **keywords)

    def save_pretrained(self, folder: str | Path, **keywords: Any) -> None:
        """Save the policy alone; `DPOTrainer.save_model` writes the rule beside it."""
        cast("Any", self.policy).save_pretrained(folder, **keywords)

    def push_to_hub(self, name: str, **keywords: Any) -> Any:
        """Upload the policy alone, as `policy.push_to_hub` does."""
        return cast("Any", self.policy).push_to_hub(name, **keywords)

    @property
    def config(self) -> Any:
        """The policy's config: `transformers` looks for it on the model that it trains."""
        return cast("PreTrainedModel", self.policy).config

    @property
    def _no_split_modules(self) -> Any:
        """The policy's layers, each of which wrappers for many ranks gather by itself."""
        return getattr(base_of(self.policy), "_no_split_modules", None)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether the policy recomputes activations: wrappers for many ranks ask."""
        return bool(getattr(self.policy, "is_activation_checkpointing", False))

    def activation_checkpointing_enable(self, **kwargs: Any) -> None:
        """Let the policy recompute activations in the backward pass."""
        cast("Any", self.policy).activation_checkpointing_enable(**kwargs)

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """The same by the name that `transformers` before 5.20 calls."""
        cast("Any", self.policy).gradient_checkpointing_enable(**kwargs)

    def scored(self, pairs: Pairs, also: frozenset[Need] = frozenset()) -> tuple[PairLogps, PromptFeatures]:
        """The policy's log-probabilities and what the rule reads of the prompts.

        Args:
            pairs: the batch; its reference's columns hold the log PPL when the rule reads the reference's.
            also: features to compute beyond those that the rule needs.
        """
        needs = (self.rule.needs | also) - {Need.ENTROPY}  # which is the reference's
        from_reference = self.rule.ppl_from == "reference" and Need.LOG_PPL in needs
        policy, features = pair_forward(
            self.policy,
            pairs,
            needs - {Need.LOG_PPL} if from_reference else needs,
            couple=self.rule.couple,
            common=self.objective.needs_common,
            beside=self._beside(pairs) if Need.PERTURBED in needs else None,
            kernel=self.kernel,
        )
        if from_reference:
            read = None if pairs.reference is None else pairs.reference.log_ppl
            assert read is not None, "the rule reads the reference's log PPL, but the batch has none"
            features = replace(features, log_ppl=read, has_ppl=pairs.ppl_tokens > 0)
        return policy, replace(features, columns=pairs.columns)

    def _beside(self, pairs: Pairs) -> Perturbation:
        states = None if pairs.reference is None else pairs.reference.states
        assert states is not None, "the rule perturbs the policy with the reference, but the batch has no states of it"
        return Perturbation(size=self.rule.perturbation, states=states, head=self.reference_head)

    def shaped(
        self, policy: PairLogps, features: PromptFeatures, reference: ReferenceScores | None
    ) -> tuple[Tensor, Shaping]:
        """The margin of every pair, as loss and rule want it, and what the rule makes of it."""
        chosen, rejected = self.objective.sides(policy, reference)
        if Need.PAIR in self.rule.needs:
            assert reference is not None, "the rule reads the reference's log-probabilities, but the batch has none"
            features = replace(features, pair=PairReading.of(policy, reference))
        margin = chosen - rejected
        return margin, self.rule(features, margin)

    def within(self, call: Callable[[], T]) -> T:
        """What `call` gives where the weights can be read.

        Where they are spread over ranks they are whole only inside of a forward, so it is called in there, and every
        rank must do so at the same time; elsewhere it is just called. What it gives must be no view of a weight, whose
        memory is given back afterwards.
        """
        if not isinstance(self, FSDPModule):
            return call()
        found = self(inside=call)
        self.reshard()  # else the next forward would not see that the weights have moved
        return found

    def forward(self, *, inside: Callable[[], Any] | None = None, **batch: Any) -> Any:
        """The loss of every pair, and per pair what the log shows (detached).

        Args:
            inside: called instead, see `within`.
            batch: what `types.bundled` reads, the reference's columns included.

        Returns:
            `losses` with gradient; `margin` (of the main loss), `beta`, `penalty`, `chosen_logps`, `rejected_logps`,
            `chosen_rewards`, `rejected_rewards` (β·log-ratio, summed over tokens with every loss; of losses without a
            reference β times their own scores) and, when the rule reads it, `log_ppl` with `has_ppl` (1 or 0), all
            float32.
        """
        if inside is not None:
            return inside()
        pairs = bundled(batch)
        policy, features = self.scored(pairs)
        reference = pairs.reference
        there = reference is not None or not self.needs_reference
        assert there, "the reference's columns must be in the batch before the forward"
        margin, shaping = self.shaped(policy, features, reference)
        objective, shift = self.objective, self.shift
        losses = objective.losses(
            policy,
            reference,
            shaping,
            shift=None if shift is None else shift.mean,
            everyone=self.everyone if self.training else None,
        )
        chosen, rejected = (shaping.beta * side for side in objective.log_ratios(policy, reference))
        if shift is not None:
            shift.see(chosen, rejected)
        shown = {
            "margin": margin,
            "beta": shaping.beta,
            "penalty": shaping.penalty,
            "chosen_logps": policy.chosen,
            "rejected_logps": policy.rejected,
            "chosen_rewards": chosen,
            "rejected_rewards": rejected,
        }
        if features.log_ppl is not None:
            assert features.has_ppl is not None
            shown |= {"log_ppl": features.log_ppl, "has_ppl": features.has_ppl.float()}
        return {"losses": losses, **{name: value.detach() for name, value in shown.items()}}
