"""Policy and beta rule as one module, so that every wrapper sees every parameter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from betahead.beta.rule import BetaRule, Need
from betahead.forward.agreed import agreed, reads_reference
from betahead.forward.layout import Kernel
from betahead.forward.roads import pair_forward
from betahead.losses.objective import Objective
from betahead.losses.reward_shift import RewardShift
from betahead.types import PairLogps, PairReading, Pairs, PromptFeatures, ReferenceScores, Shaping, bundled

Policy = PreTrainedModel | PeftModel


class PreferenceModel(nn.Module):
    """From a collated batch to the loss of every pair and what the log shows of it.

    Args:
        policy: the causal language model being trained, adapters included.
        rule: what decides β; its head must be built.
        objective: the loss, or several with weights; the rule's shaping is of the margin of its main loss.
        kernel: what carries the attention of packed batches out.

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
        needs = self.rule.needs | also
        from_reference = self.rule.ppl_from == "reference" and Need.LOG_PPL in needs
        policy, features = pair_forward(
            self.policy,
            pairs,
            needs - {Need.LOG_PPL} if from_reference else needs,
            couple=self.rule.couple,
            common=self.objective.needs_common,
            kernel=self.kernel,
        )
        if from_reference:
            read = None if pairs.reference is None else pairs.reference.log_ppl
            assert read is not None, "the rule reads the reference's log PPL, but the batch has none"
            features = replace(features, log_ppl=read, has_ppl=pairs.ppl_tokens > 0)
        return policy, replace(features, columns=pairs.columns)

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

    def forward(self, **batch: Any) -> dict[str, Tensor]:
        """The loss of every pair, and per pair what the log shows (detached).

        Args:
            batch: what `types.bundled` reads, the reference's columns included.

        Returns:
            `losses` with gradient; `margin` (of the main loss), `beta`, `penalty`, `chosen_logps`, `rejected_logps`,
            `chosen_rewards`, `rejected_rewards` (β·log-ratio, summed over tokens with every loss; of losses without a
            reference β times their own scores) and, when the rule reads it, `log_ppl` with `has_ppl` (1 or 0), all
            float32.
        """
        pairs = bundled(batch)
        policy, features = self.scored(pairs)
        reference = pairs.reference
        there = reference is not None or not self.needs_reference
        assert there, "the reference's columns must be in the batch before the forward"
        margin, shaping = self.shaped(policy, features, reference)
        objective, shift = self.objective, self.shift
        losses = objective.losses(policy, reference, shaping, shift=None if shift is None else shift.mean)
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
