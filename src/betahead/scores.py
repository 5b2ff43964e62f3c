"""What policy and reference say of the answers of pairs; shapes as in `types`."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class ReferenceScores:
    """What the reference says of a batch: two columns, plus those that a rule or a loss asks for.

    A cache fills them in beforehand or the live reference just before the step; nothing downstream knows which. Only
    `states`, which are no column, are always from the live reference.

    Args:
        chosen_logps: of the whole answer; the other one likewise.
        log_ppl: of the prompt.
        chosen_common_logps: of as many first tokens as both answers have; the other one likewise.
        entropy: of the next token, the mean over both answers of the mean over their tokens, as a share of log |V|.
        states: see `AnswerSums.states`.
    """

    chosen_logps: Float[Tensor, " pairs"]
    rejected_logps: Float[Tensor, " pairs"]
    log_ppl: Float[Tensor, " pairs"] | None = None
    chosen_common_logps: Float[Tensor, " pairs"] | None = None
    rejected_common_logps: Float[Tensor, " pairs"] | None = None
    entropy: Float[Tensor, " pairs"] | None = None
    states: Float[Tensor, "scored width"] | None = None

    def columns(self) -> dict[str, Tensor]:
        """The scores by the names that they have in a batch and in a data set."""
        return {f"ref_{name}": value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerSums:
    """What a model's whole vocabulary says along both answers, without gradient; None where nobody asked for it.

    Rows are answers, the chosen ones first; sums are over an answer's tokens, each seen from the tokens before it.

    Args:
        collision: Σ_t log Σ_v π(v)², nats, ≤ 0: how likely two draws of the next token are the same.
        entropy: Σ_t H_t / log |V|, H_t the entropy of the next token; between 0 and the number of tokens.
        looser: Σ_t [log π⁺(y_t) − log π(y_t)], nats, with the logits of π⁺ those of the policy moved away from the
            reference's, f + ε·(f − f_ref), as a smaller β would.
        tighter: the same with f − ε·(f − f_ref), as a larger β would.
        states: what gives the logits of every token of the answers, chosen ones first: the states that the LM head
            reads on the shared road, the logits themselves on the plain one.
    """

    collision: Float[Tensor, " rows"] | None = None
    entropy: Float[Tensor, " rows"] | None = None
    looser: Float[Tensor, " rows"] | None = None
    tighter: Float[Tensor, " rows"] | None = None
    states: Float[Tensor, "scored width"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PairLogps:
    """A model's log-probabilities of both answers: sums over the answer's tokens (nats) and the token counts.

    `chosen_common` and `rejected_common` are the sums over as many first tokens as both answers have, when asked for.
    """

    chosen: Float[Tensor, " pairs"]
    rejected: Float[Tensor, " pairs"]
    chosen_tokens: Int[Tensor, " pairs"]
    rejected_tokens: Int[Tensor, " pairs"]
    chosen_common: Float[Tensor, " pairs"] | None = None
    rejected_common: Float[Tensor, " pairs"] | None = None
    sums: AnswerSums = field(default_factory=AnswerSums)

    def per_token(self, rows: Float[Tensor, " rows"]) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """Sums over the tokens of each answer as means, (chosen, rejected); an empty answer counts as one token."""
        chosen, rejected = rows.chunk(2)
        return chosen / self.chosen_tokens.clamp(min=1), rejected / self.rejected_tokens.clamp(min=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class PairReading:
    """What a rule may read of a pair's answers: log-probabilities summed over tokens (nats), and numbers of tokens.

    The policy's are detached: a rule that reads the pair decides by it and is not learned through it.

    Args:
        confidence: of the policy in both answers, Σ over the two of the mean over tokens of log π(y_t) − log Σ_v π(v)²;
            nats per token, 0 for a uniform policy.
        reference_entropy: see `ReferenceScores.entropy`.
        looser: how much the margin grows when the policy moves away from the reference, nats; see `AnswerSums`.
        tighter: the same when it moves towards it.
    """

    chosen_logps: Float[Tensor, " pairs"]
    rejected_logps: Float[Tensor, " pairs"]
    reference_chosen_logps: Float[Tensor, " pairs"]
    reference_rejected_logps: Float[Tensor, " pairs"]
    chosen_tokens: Int[Tensor, " pairs"]
    rejected_tokens: Int[Tensor, " pairs"]
    confidence: Float[Tensor, " pairs"] | None = None
    reference_entropy: Float[Tensor, " pairs"] | None = None
    looser: Float[Tensor, " pairs"] | None = None
    tighter: Float[Tensor, " pairs"] | None = None

    @classmethod
    def of(cls, policy: PairLogps, reference: ReferenceScores) -> "PairReading":
        """The reading of a batch."""
        return cls(
            chosen_logps=policy.chosen.detach(),
            rejected_logps=policy.rejected.detach(),
            reference_chosen_logps=reference.chosen_logps,
            reference_rejected_logps=reference.rejected_logps,
            chosen_tokens=policy.chosen_tokens,
            rejected_tokens=policy.rejected_tokens,
            confidence=_confidence(policy),
            reference_entropy=reference.entropy,
            looser=_difference(policy.sums.looser),
            tighter=_difference(policy.sums.tighter),
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


def _confidence(policy: PairLogps) -> Tensor | None:
    collision = policy.sums.collision
    if collision is None:
        return None
    chosen, rejected = policy.per_token(torch.cat([policy.chosen, policy.rejected]).detach() - collision)
    return chosen + rejected


def _difference(rows: Tensor | None) -> Tensor | None:
    if rows is None:
        return None
    chosen, rejected = rows.chunk(2)
    return chosen - rejected
