"""What a whole vocabulary says along the answers: read a few tokens at a time, without gradient, and thrown away."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.beta.rule import Need
from betahead.forward.chunked import chunk_tokens
from betahead.forward.logit_head import LogitHead
from betahead.forward.token_logps import token_logps
from betahead.types import AnswerSums

READ = frozenset({Need.COLLISION, Need.ENTROPY, Need.STATES})
"""The needs that are read here, with nothing but the model at hand."""

Logits = Callable[[Tensor], Tensor]
"""From `AnswerSums.states` of some tokens to their logits, at least float32."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Perturbation:
    """The reference beside the policy, to move the policy's logits a little away from and towards its own.

    Args:
        size: ε.
        states: the reference's `AnswerSums.states` of the same batch.
        head: its LM head; None where that is the policy's own without adapters.
    """

    size: float
    states: Float[Tensor, "scored width"]
    head: LogitHead | None = None


@torch.no_grad()
def answer_sums(
    needs: frozenset[Need],
    states: Float[Tensor, "scored width"],
    labels: Int[Tensor, " scored"],
    row: Int[Tensor, " scored"],
    *,
    rows: int,
    logits: Logits,
    vocab: int,
    beside: tuple[Perturbation, Logits] | None = None,
    chunk: int | None = None,
) -> AnswerSums:
    """The sums over the tokens of every answer that `needs` asks for.

    Args:
        needs: what to compute; what is not in `READ` is not looked at.
        states: what gives the logits of each token.
        labels: token ids.
        row: the answer that each belongs to.
        rows: number of answers.
        logits: from states to logits.
        vocab: number of logits of a token, for the size of a chunk.
        beside: the reference, and how its states become logits; then `looser` and `tighter` are computed.
        chunk: tokens at a time; None for what suits the device. It changes rounding only.

    Returns:
        float32 (float64 stays float64). Where policy and reference are the same, `looser` and `tighter` are exactly 0.
    """
    states = states.detach()
    found: dict[str, list[Tensor]] = {}

    def add(name: str, values: Tensor) -> None:
        found.setdefault(name, []).append(values)

    # With a reference beside it, four times as much is held at once.
    size = chunk or max(1, chunk_tokens(vocab, states.device) // (1 if beside is None else 4))
    for start in range(0, len(labels), size):
        here = slice(start, start + size)
        scores = logits(states[here])
        if needs & {Need.COLLISION, Need.ENTROPY}:
            normal = scores.log_softmax(dim=-1)
            if Need.COLLISION in needs:
                add("collision", (2.0 * normal).logsumexp(dim=-1))
            if Need.ENTROPY in needs:
                add("entropy", torch.special.entr(normal.exp()).sum(dim=-1) / math.log(scores.shape[-1]))
        if beside is not None:
            perturbation, theirs = beside
            apart = scores - theirs(perturbation.states[here])
            own = token_logps(scores, labels[here])
            for name, step in (("looser", perturbation.size), ("tighter", -perturbation.size)):
                # So written, equal logits stay equal to the last bit.
                add(name, token_logps(torch.add(scores, apart, alpha=step), labels[here]) - own)
    summed = {name: torch.cat(parts) for name, parts in found.items()}
    return AnswerSums(
        **{name: values.new_zeros(rows).index_add(0, row, values) for name, values in summed.items()},
        states=states if Need.STATES in needs else None,
    )
