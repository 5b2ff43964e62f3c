"""The tensor bundles that several layers share, and the legend of their shapes.

Legend (one word, one axis, everywhere in the package):

    pairs    preference pairs in the batch
    rows     answers with their prompts; two per pair, chosen rows first
    tokens   positions of a padded row, or all positions of a packed batch
    hidden   width of the model's last hidden state
    vocab    size of the output vocabulary

Log-probabilities are natural (nats). Everything per pair is float32, whatever the model computes in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PAIR_COLUMNS = ("given_beta", "strength", "reward_margin")
"""Columns with a number a pair that data may bring for rules: a β(x) up to a factor, how certain the preference is, and
a reward model's margin of the chosen answer over the rejected one."""


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The collated batch with its tensors on the device."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class ReferenceScores:
    """What the reference says of a batch: two columns, plus those that a rule or a loss asks for.

    A cache fills them in beforehand or the live reference just before the step; nothing downstream knows which.

    Args:
        chosen_logps: of the whole answer; the other one likewise.
        log_ppl: of the prompt.
        chosen_common_logps: of as many first tokens as both answers have; the other one likewise.
    """

    chosen_logps: Float[Tensor, " pairs"]
    rejected_logps: Float[Tensor, " pairs"]
    log_ppl: Float[Tensor, " pairs"] | None = None
    chosen_common_logps: Float[Tensor, " pairs"] | None = None
    rejected_common_logps: Float[Tensor, " pairs"] | None = None

    def columns(self) -> dict[str, Tensor]:
        """The scores by the names that they have in a batch and in a data set."""
        return {f"ref_{name}": value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, eq=False, kw_only=True)
class PairBatch:
    """Pairs as padded rows: the chosen rows come first, then the rejected rows in the same order.

    Args:
        input_ids: token ids, right-padded.
        attention_mask: False at padding.
        completion_mask: True at the answer's tokens (its end-of-turn token included).
        prompt_mask: True at the prompt's tokens of the chosen rows.
        ppl_mask: True at the prompt tokens that count for log PPL: they have a predecessor and are not excluded as
            template tokens. A row may hold none.
        reference: the reference's columns, or None when they are yet to be computed.
        columns: numbers that came with the data, one a pair, by name; see `PAIR_COLUMNS`.
    """

    input_ids: Int[Tensor, "rows tokens"]
    attention_mask: Bool[Tensor, "rows tokens"]
    completion_mask: Bool[Tensor, "rows tokens"]
    prompt_mask: Bool[Tensor, "pairs tokens"]
    ppl_mask: Bool[Tensor, "pairs tokens"]
    reference: ReferenceScores | None = None
    columns: Mapping[str, Float[Tensor, " pairs"]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, batch: Mapping[str, Any]) -> "PairBatch":
        """The bundle of a collated dict (accelerate moves dicts between devices, not dataclasses)."""
        return cls(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"].bool(),
            completion_mask=batch["completion_mask"].bool(),
            prompt_mask=batch["prompt_mask"].bool(),
            ppl_mask=batch["ppl_mask"].bool(),
            reference=_reference_of(batch),
            columns=_columns_of(batch),
        )

    @property
    def pairs(self) -> int:
        """Number of pairs: half the rows."""
        return self.prompt_mask.shape[0]

    @property
    def ppl_tokens(self) -> Int[Tensor, " pairs"]:
        """How many tokens of each prompt count for log PPL."""
        return self.ppl_mask.sum(dim=-1)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredTokens:
    """Tokens of a packed batch whose log-probability is wanted.

    Args:
        at: position of the token before each one, whose hidden state predicts it. The first token of every answer is
            predicted by the last token of its prompt.
        ids: the tokens themselves.
        row: which row each belongs to: the row of an answer, or the pair of a prompt.
    """

    at: Int[Tensor, " scored"]
    ids: Int[Tensor, " scored"]
    row: Int[Tensor, " scored"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedPairs:
    """Pairs as trunks and branches: `prompt · chosen · rejected` of one pair after the other, without padding.

    Args:
        input_ids: the tokens of all pairs, end to end.
        position_ids: the position of each token in its own row; those of every answer begin where its prompt ends.
        spans: per pair the number of tokens of prompt and answers, `(prompt, chosen, rejected)`. These are numbers of
            the host, so that nothing has to be read back from the device.
        answers: the answers' tokens; row i is the chosen answer of pair i, row pairs + i its rejected one.
        prompts: the prompt tokens that count for log PPL; a pair may have none.
        prompt_at: positions of each prompt's tokens, padded with that of its last token.
        prompt_tokens: number of tokens of each prompt.
        reference: the reference's columns, or None when they are yet to be computed.
        columns: numbers that came with the data, one a pair, by name.
    """

    input_ids: Int[Tensor, " tokens"]
    position_ids: Int[Tensor, " tokens"]
    spans: tuple[tuple[int, ...], ...]
    answers: ScoredTokens
    prompts: ScoredTokens
    prompt_at: Int[Tensor, "pairs longest"]
    prompt_tokens: Int[Tensor, " pairs"]
    reference: ReferenceScores | None = None
    columns: Mapping[str, Float[Tensor, " pairs"]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, batch: Mapping[str, Any]) -> "PackedPairs":
        """The bundle of a collated dict (accelerate moves dicts between devices, not dataclasses)."""
        answers, prompts = (
            ScoredTokens(at=batch[f"{part}_at"], ids=batch[f"{part}_ids"], row=batch[f"{part}_row"])
            for part in ("answer", "ppl")
        )
        return cls(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            spans=tuple(tuple(span) for span in batch["spans"]),
            answers=answers,
            prompts=prompts,
            prompt_at=batch["prompt_at"],
            prompt_tokens=batch["prompt_tokens"],
            reference=_reference_of(batch),
            columns=_columns_of(batch),
        )

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.spans)

    @property
    def ppl_tokens(self) -> Int[Tensor, " pairs"]:
        """How many tokens of each prompt count for log PPL."""
        rows = self.prompts.row
        return torch.zeros_like(self.prompt_tokens).index_add(0, rows, torch.ones_like(rows))


Pairs = PairBatch | PackedPairs
"""A batch of either road."""


def bundled(batch: Mapping[str, Any]) -> Pairs:
    """The bundle of a collated dict of either road."""
    return PackedPairs.from_dict(batch) if "spans" in batch else PairBatch.from_dict(batch)


def _columns_of(batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
    return {name: batch[name] for name in PAIR_COLUMNS if name in batch}


def _reference_of(batch: Mapping[str, Any]) -> ReferenceScores | None:
    if "ref_chosen_logps" not in batch:
        return None
    names = ReferenceScores.__dataclass_fields__
    return ReferenceScores(**{name: batch[f"ref_{name}"] for name in names if f"ref_{name}" in batch})


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptFeatures:
    """What a rule may read of a prompt. A field is None when the rule did not ask for it.

    Args:
        pairs: number of prompts, one per pair.
        log_ppl: mean negative log-probability of the prompt's counted tokens, nats per token, floored at 1e-2;
            undefined where `has_ppl` is False.
        has_ppl: False for a prompt without a counted token.
        last_hidden: hidden state of the last prompt token.
        hidden: hidden states of all prompt tokens, padded.
        hidden_mask: True at the prompt's tokens of `hidden`.
        columns: numbers that came with the data, by name.
        pair: the log-probabilities of both answers.
    """

    pairs: int
    log_ppl: Float[Tensor, " pairs"] | None = None
    has_ppl: Bool[Tensor, " pairs"] | None = None
    last_hidden: Float[Tensor, "pairs hidden"] | None = None
    hidden: Float[Tensor, "pairs tokens hidden"] | None = None
    hidden_mask: Bool[Tensor, "pairs tokens"] | None = None
    columns: Mapping[str, Float[Tensor, " pairs"]] = field(default_factory=dict)
    pair: "PairReading | None" = None

    @property
    def detached(self) -> "PromptFeatures":
        """The same numbers without gradient."""
        still = {name: value.detach() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **still)


@dataclass(frozen=True, eq=False, kw_only=True)
class PairLogps:
    """The policy's log-probabilities of both answers: sums over the answer's tokens (nats) and the token counts.

    `chosen_common` and `rejected_common` are the sums over as many first tokens as both answers have, when asked for.
    """

    chosen: Float[Tensor, " pairs"]
    rejected: Float[Tensor, " pairs"]
    chosen_tokens: Int[Tensor, " pairs"]
    rejected_tokens: Int[Tensor, " pairs"]
    chosen_common: Float[Tensor, " pairs"] | None = None
    rejected_common: Float[Tensor, " pairs"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PairReading:
    """What a rule may read of a pair's answers: log-probabilities summed over tokens (nats), and numbers of tokens.

    The policy's are detached: a rule that reads the pair decides by it and is not learned through it.
    """

    chosen_logps: Float[Tensor, " pairs"]
    rejected_logps: Float[Tensor, " pairs"]
    reference_chosen_logps: Float[Tensor, " pairs"]
    reference_rejected_logps: Float[Tensor, " pairs"]
    chosen_tokens: Int[Tensor, " pairs"]
    rejected_tokens: Int[Tensor, " pairs"]

    @classmethod
    def of(cls, policy: "PairLogps", reference: ReferenceScores) -> "PairReading":
        """The reading of a batch."""
        return cls(
            chosen_logps=policy.chosen.detach(),
            rejected_logps=policy.rejected.detach(),
            reference_chosen_logps=reference.chosen_logps,
            reference_rejected_logps=reference.rejected_logps,
            chosen_tokens=policy.chosen_tokens,
            rejected_tokens=policy.rejected_tokens,
        )

    @property
    def policy_mean_margin(self) -> Float[Tensor, " pairs"]:
        """Mean log-probability per token of the chosen answer minus that of the rejected one, under the policy."""
        return self.chosen_logps / self.chosen_tokens.clamp(min=1) - self.rejected_logps / self.rejected_tokens.clamp(
            min=1
        )

    @property
    def mean_margin(self) -> Float[Tensor, " pairs"]:
        """The same less what it is under the reference, nats per token."""
        reference = self.reference_chosen_logps / self.chosen_tokens.clamp(min=1)
        return self.policy_mean_margin - (reference - self.reference_rejected_logps / self.rejected_tokens.clamp(min=1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Shaping:
    """What a beta rule returns, one number per pair: loss_i = weight_i · link(β_i · (h_i − target_i)) + penalty_i."""

    beta: Float[Tensor, " pairs"]
    target: Float[Tensor, " pairs"]
    weight: Float[Tensor, " pairs"]
    penalty: Float[Tensor, " pairs"]
