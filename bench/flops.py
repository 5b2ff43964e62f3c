"""Counted floating-point operations of a training step: the matrix multiplications that it needs, and nothing else.

A multiply and an add are two operations. Only what the mathematics asks for is counted: no padding, no position whose
log-probability nobody reads, no recomputation. So a share of the matmul rate is a share of useful work.
"""

from collections.abc import Iterable
from typing import NamedTuple

from bench.geometries import ModelShape


class Lengths(NamedTuple):
    """Tokens of a pair's prompt, chosen and rejected answer."""

    prompt: int
    chosen: int
    rejected: int

    @property
    def distinct(self) -> int:
        """Tokens that a pair consists of."""
        return self.prompt + self.chosen + self.rejected

    @property
    def twice(self) -> int:
        """Tokens with the prompt in both rows."""
        return self.distinct + self.prompt


class StepFlops(NamedTuple):
    """Operations of one step by where they are spent; forward and backward together."""

    body: int
    attention: int
    head: int
    reference: int
    learned: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


def body_per_token(shape: ModelShape) -> int:
    """Forward operations of the projections and the MLP of all layers, for one token."""
    projections = 2 * shape.hidden * shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    return shape.layers * (projections + 6 * shape.hidden * shape.intermediate)


def attention_per_link(shape: ModelShape) -> int:
    """Forward operations of all layers for one query that sees one key: score and weighted value."""
    return shape.layers * 4 * shape.heads * shape.head_dim


def head_per_position(shape: ModelShape) -> int:
    """Forward operations of the LM head for one position."""
    return 2 * shape.hidden * shape.vocab


def links(pair: Lengths, road: str) -> int:
    """Pairs of a query and a key that it sees: each token sees itself and what precedes it.

    Args:
        pair: the lengths.
        road: `shared` has the prompt once, `separate` twice.
    """
    prompt, chosen, rejected = pair
    trunk = prompt * (prompt + 1) // 2
    branches = sum(answer * prompt + answer * (answer + 1) // 2 for answer in (chosen, rejected))
    return branches + trunk * (1 if road == "shared" else 2)


def forward_flops(pairs: Iterable[Lengths], shape: ModelShape, road: str) -> tuple[int, int, int]:
    """(body, attention, head) of one forward pass that scores the answers."""
    body = attention = head = 0
    for pair in pairs:
        body += (pair.distinct if road == "shared" else pair.twice) * body_per_token(shape)
        attention += links(pair, road) * attention_per_link(shape)
        head += (pair.chosen + pair.rejected) * head_per_position(shape)
    return body, attention, head


def step_flops(
    pairs: Iterable[Lengths],
    shape: ModelShape,
    *,
    road: str,
    live_reference: bool = False,
    ppl_from: str | None = None,
    head_parameters: int = 0,
    trained_share: float = 1.0,
) -> StepFlops:
    """Operations of one optimizer step.

    The backward pass costs twice the forward pass: once for the gradients of the inputs, once for those of the weights.

    Args:
        pairs: the batch.
        shape: the model.
        road: `shared` or `separate`.
        live_reference: the reference scores the batch in the step, by the same road.
        ppl_from: `policy` adds the LM head on the prompt's tokens that have a predecessor, forward only; `reference`
            and None add no pass of the head.
        head_parameters: weights of the learned β's network, used once a pair, forward and backward.
        trained_share: share of the weights whose gradient is computed (LoRA computes almost none).
    """
    batch = list(pairs)
    body, attention, head = forward_flops(batch, shape, road)
    reference = body + attention + head if live_reference else 0
    learned = 6 * head_parameters * len(batch)
    if ppl_from == "policy":
        learned += sum(pair.prompt - 1 for pair in batch) * head_per_position(shape)
    weights = 2 + trained_share
    return StepFlops(
        body=round(weights * body),
        attention=3 * attention,
        head=round(weights * head),
        reference=reference,
        learned=learned,
    )


def parameters(shape: ModelShape) -> int:
    """Weights of a Qwen2 of this shape, biases and norms included."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * shape.hidden * (queries + keys) + queries + 2 * keys
    layer = attention + 3 * shape.hidden * shape.intermediate + 2 * shape.hidden
    return shape.layers * layer + (1 if shape.tied else 2) * shape.vocab * shape.hidden + shape.hidden
