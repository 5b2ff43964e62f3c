"""Policy and beta rule as one module, so that every wrapper sees every parameter."""

from dataclasses import replace
from typing import Any, cast

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from betahead.beta.rule import BetaRule, Need
from betahead.errors import ConfigError
from betahead.forward.separate import separate_forward
from betahead.losses.links import link_named
from betahead.losses.margin import logratios
from betahead.losses.preference import preference_loss
from betahead.types import PairBatch, PairLogps, PromptFeatures

Policy = PreTrainedModel | PeftModel


class PreferenceModel(nn.Module):
    """From a collated batch to the loss of every pair and what the log shows of it.

    Args:
        policy: the causal language model being trained, adapters included.
        rule: what decides β; its head must be built.
        loss_kind: a row of `losses.links.LINKS`.
        label_smoothing: for the links that read it.

    Raises:
        ConfigError: for a loss that does not exist, cannot use the smoothing, or is not one that the rule is made for.
    """

    def __init__(
        self, policy: Policy, rule: BetaRule, *, loss_kind: str = "sigmoid", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.link = link_named(loss_kind, label_smoothing)
        if rule.links is not None and loss_kind not in rule.links:
            raise ConfigError(
                f"`loss.kind` must be {' or '.join(sorted(rule.links))} with this beta rule, but is {loss_kind} "
                "instead; its way of learning has no meaning with another loss."
            )
        self.policy = policy
        self.rule = rule
        self.loss_kind = loss_kind
        self.label_smoothing = label_smoothing

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

    def scored(self, pairs: PairBatch, also: frozenset[Need] = frozenset()) -> tuple[PairLogps, PromptFeatures]:
        """The policy's log-probabilities and what the rule reads of the prompts.

        Args:
            pairs: the batch; its reference's columns hold the log PPL when the rule reads the reference's.
            also: features to compute beyond those that the rule needs.
        """
        policy, features = separate_forward(self.policy, pairs, self.rule.needs | also, couple=self.rule.couple)
        if self.rule.ppl_from == "reference" and features.log_ppl is not None:
            read = None if pairs.reference is None else pairs.reference.log_ppl
            assert read is not None, "the rule reads the reference's log PPL, but the batch has none"
            features = replace(features, log_ppl=read)
        if Need.GIVEN_BETA in self.rule.needs:
            features = replace(features, given_beta=pairs.given_beta)
        return policy, features

    def forward(self, **batch: Any) -> dict[str, Tensor]:
        """The loss of every pair, and per pair what the log shows (detached).

        Args:
            batch: what `PairBatch.from_dict` reads, the reference's columns included.

        Returns:
            `losses` with gradient; `margin` (nats), `beta`, `penalty`, `chosen_logps`, `rejected_logps`,
            `chosen_rewards`, `rejected_rewards` (β·log-ratio, summed over tokens with every loss) and, when the rule
            reads it, `log_ppl` with `has_ppl` (1 or 0), all float32.
        """
        pairs = PairBatch.from_dict(batch)
        policy, features = self.scored(pairs)
        reference = pairs.reference
        assert reference is not None, "the reference's columns must be in the batch before the forward"
        chosen, rejected = logratios(policy, reference, per_token=self.link.per_token)
        margin = chosen - rejected
        shaping = self.rule(features, margin)
        losses = preference_loss(margin, shaping, kind=self.loss_kind, label_smoothing=self.label_smoothing)
        shown = {
            "margin": margin,
            "beta": shaping.beta,
            "penalty": shaping.penalty,
            "chosen_logps": policy.chosen,
            "rejected_logps": policy.rejected,
            "chosen_rewards": shaping.beta * (policy.chosen - reference.chosen_logps),
            "rejected_rewards": shaping.beta * (policy.rejected - reference.rejected_logps),
        }
        if features.log_ppl is not None:
            assert features.has_ppl is not None
            shown |= {"log_ppl": features.log_ppl, "has_ppl": features.has_ppl.float()}
        return {"losses": losses, **{name: value.detach() for name, value in shown.items()}}
