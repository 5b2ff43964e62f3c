"""Log-probabilities of selected tokens from hidden states, a few tokens and a part of the vocabulary at a time.

The logits of such a tile are made, read and thrown away; the backward pass makes them again. So what is held at once
depends neither on the number of tokens nor on the vocabulary. The loss of a pair may be weighted by what only the
whole batch knows, which is why the gradient is not computed on the way forward.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from betahead.forward.logit_head import LogitHead, shaped_logits
from betahead.forward.token_logps import at_least_float32, token_logps

# Logits held at once: what stays in a CPU's cache, and what keeps a GPU busy without filling it (half a GiB).
_HOST_LOGITS = 2**23
_DEVICE_LOGITS = 2**27
# Tokens × words of a tile on a CPU: 8 MiB of float32, wide and high enough for its matrix products.
_HOST_TILE = (512, 4096)


def chunk_tokens(vocab: int, device: torch.device) -> int:
    """Tokens whose logits are held at once."""
    return max(1, (_HOST_LOGITS if device.type == "cpu" else _DEVICE_LOGITS) // vocab)


def tile(vocab: int, device: torch.device) -> tuple[int, int]:
    """Tokens, and words of the vocabulary, whose logits are held at once where the weight can be cut."""
    return _HOST_TILE if device.type == "cpu" else (chunk_tokens(vocab, device), vocab)


def chunked_token_logps(
    hidden: Float[Tensor, "tokens hidden"],
    labels: Int[Tensor, " tokens"],
    head: LogitHead,
    *,
    chunk: int | None = None,
    words: int | None = None,
    weight: Float[Tensor, "vocab hidden"] | None = None,
) -> Float[Tensor, " tokens"]:
    """The log-probability of each label, `log softmax(head(hidden))[label]`, without the logits of all tokens.

    Args:
        hidden: the state that predicts each label.
        labels: token ids.
        head: from states to logits.
        chunk: tokens at a time; None for what suits the device. It changes rounding only.
        words: of the vocabulary at a time; the same. A head that only its module can apply is never cut.
        weight: the head's, as an embedding that shares it gives it (`tied.embedded`); None for the head's own.

    Returns:
        Values ≤ 0, nats, float32 (float64 stays float64).

    Gradient:
        Flows into the states, and into the head's parameters where they want one; nothing is computed for those that
        do not.
    """
    linear = head.linear
    if linear is None:
        return _through_module(hidden, labels, head, chunk or chunk_tokens(head.vocab, hidden.device))
    high, wide = tile(head.vocab, hidden.device)
    size = (chunk or high, words or wide)
    weight = linear.weight if weight is None else weight
    bias = cast("Tensor | None", linear.bias)
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden = hidden.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    with torch.autocast(kind, enabled=False):
        values = _ChunkedLogps.apply(hidden, weight, bias, labels, head.scale, head.softcap, size)
    return cast("Tensor", values)


def _through_module(hidden: Tensor, labels: Tensor, head: LogitHead, size: int) -> Tensor:
    """The same for a head that only its module can apply (adapters, quantized weights): recomputed chunk by chunk."""

    def part(states: Tensor, wanted: Tensor) -> Tensor:
        return token_logps(head.logits(states), wanted)

    parts: list[Tensor] = []
    for states, wanted in zip(hidden.split(size), labels.split(size), strict=True):
        if torch.is_grad_enabled():
            parts.append(cast("Tensor", checkpoint(part, states, wanted, use_reentrant=False)))
        else:
            parts.append(part(states, wanted))
    return torch.cat(parts) if parts else at_least_float32(hidden.new_zeros(0))


class _ChunkedLogps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        scale: float,
        softcap: float | None,
        size: tuple[int, int],
    ) -> Tensor:
        # Cast in here, so that the gradient is as precise as the weight, and there but once.
        ctx.weight_dtype, weight = weight.dtype, weight.to(hidden.dtype)
        precise = at_least_float32(hidden[:0]).dtype
        logps = hidden.new_empty(labels.shape, dtype=precise)
        totals = torch.empty_like(logps)
        high, wide = size
        for start in range(0, labels.shape[0], high):
            here = slice(start, start + high)
            parts = (
                _part(hidden[here], *_cut(weight, bias, words), labels[here] - words.start, scale, softcap)
                for words in _spans(weight.shape[0], wide)
            )
            own, base, total = next(parts)
            for within, normal, more in parts:  # a label is in one part, and counts nothing in the others
                own, base, total = own + within, base + normal, torch.logaddexp(total, more)
            totals[here] = total
            logps[here] = own + (base - total)  # nothing is added where there is one part alone
        ctx.save_for_backward(hidden, weight, bias, labels, totals)
        ctx.scale, ctx.softcap, ctx.size = scale, softcap, size
        return logps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (given,) = gradients
        hidden, weight, bias, labels, totals = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        precise = totals.dtype
        by_hidden = torch.empty_like(hidden) if wants_hidden else None
        by_weight = torch.zeros_like(weight, dtype=precise) if wants_weight else None
        by_bias = torch.zeros_like(bias, dtype=precise) if wants_bias else None
        high, wide = ctx.size
        for start in range(0, labels.shape[0], high):
            here = slice(start, start + high)
            states = hidden[here]
            # The sign of softmax − one-hot and the incoming gradient are put on the small side.
            slope = given[here].unsqueeze(-1).to(precise) * -ctx.scale
            pushed = (states.to(precise) * slope).to(weight.dtype)
            pulled = torch.zeros_like(states, dtype=precise) if by_hidden is not None else None
            for words in _spans(weight.shape[0], wide):
                part, offset = _cut(weight, bias, words)
                excess = _excess(states, part, offset, labels[here] - words.start, totals[here], ctx.scale, ctx.softcap)
                small = excess.to(weight.dtype)
                if pulled is not None:
                    _add_product(pulled, small, part)
                if by_weight is not None:
                    _add_product(by_weight[words], small.t(), pushed)
                if by_bias is not None:
                    by_bias[words].add_((excess * slope).sum(dim=0))
            if by_hidden is not None and pulled is not None:
                by_hidden[here] = pulled.mul_(slope).to(hidden.dtype)
        return (
            by_hidden,
            None if by_weight is None else by_weight.to(ctx.weight_dtype),
            None if by_bias is None else by_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
        )


def _spans(vocab: int, wide: int) -> Iterator[slice]:
    """The vocabulary in parts."""
    return (slice(start, min(start + wide, vocab)) for start in range(0, vocab, wide))


def _cut(weight: Tensor, bias: Tensor | None, words: slice) -> tuple[Tensor, Tensor | None]:
    """The rows of the head that predict these words."""
    return weight[words], None if bias is None else bias[words]


def _part(
    states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Each label's log-probability among these words, log Σ exp of their logits, and the latter once more.

    The first two are 0 for a label that is not one of the words.
    """
    logits = shaped_logits(_raw(states, weight, bias), scale, softcap)
    # One fused pass over the logits, several times quicker than logsumexp on a CPU.
    normal = torch.log_softmax(logits, dim=-1)
    total = logits.amax(dim=-1) - normal.amax(dim=-1)
    at = labels.clamp(0, weight.shape[0] - 1)
    elsewhere = at != labels
    own = normal.gather(-1, at.unsqueeze(-1)).squeeze(-1)
    return own.masked_fill(elsewhere, 0.0), total.masked_fill(elsewhere, 0.0), total


def _excess(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    totals: Tensor,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """softmax − one-hot by raw logit, in place of the logits."""
    logits = shaped_logits(_raw(states, weight, bias), scale, softcap)
    bend = None if softcap is None else 1.0 - (logits / softcap).square_()
    excess = logits.sub_(totals.unsqueeze(-1)).exp_()
    at = labels.clamp(0, weight.shape[0] - 1)
    excess.scatter_add_(-1, at.unsqueeze(-1), -(at == labels).to(excess.dtype).unsqueeze(-1))
    return excess if bend is None else excess.mul_(bend)


def _add_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    """into += left · right, whose product may be of a lower precision."""
    if into.dtype == right.dtype:
        into.addmm_(left, right)
    else:
        into.add_(left @ right)


def _raw(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits of a chunk, float32 or float64, in memory of its own."""
    logits = states @ weight.t() if bias is None else torch.addmm(bias, states, weight.t())
    return at_least_float32(logits)
