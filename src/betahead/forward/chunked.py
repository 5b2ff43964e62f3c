"""Log-probabilities of selected tokens from hidden states, a few tokens at a time.

The logits of a chunk are made, read and thrown away; the backward pass makes them again. So what is held at once
depends neither on the number of tokens nor on the vocabulary. The loss of a pair may be weighted by what only the
whole batch knows, which is why the gradient is not computed on the way forward.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from betahead.forward.logit_head import LogitHead, shaped_logits
from betahead.forward.tied import TiedGradient
from betahead.forward.token_logps import at_least_float32, token_logps

# Logits held at once: what stays in a CPU's cache, and what keeps a GPU busy without filling it (half a GiB).
_HOST_LOGITS = 2**23
_DEVICE_LOGITS = 2**27


def chunk_tokens(vocab: int, device: torch.device) -> int:
    """Tokens whose logits are held at once."""
    return max(1, (_HOST_LOGITS if device.type == "cpu" else _DEVICE_LOGITS) // vocab)


def chunked_token_logps(
    hidden: Float[Tensor, "tokens hidden"],
    labels: Int[Tensor, " tokens"],
    head: LogitHead,
    *,
    chunk: int | None = None,
    tied: TiedGradient | None = None,
) -> Float[Tensor, " tokens"]:
    """The log-probability of each label, `log softmax(head(hidden))[label]`, without the logits of all tokens.

    Args:
        hidden: the state that predicts each label.
        labels: token ids.
        head: from states to logits.
        chunk: tokens at a time; None for what suits the device. It changes rounding only.
        tied: takes the gradient of the head's weight, for an embedding that hands it on; None to hand it on here.

    Returns:
        Values ≤ 0, nats, float32 (float64 stays float64).

    Gradient:
        Flows into the states, and into the head's parameters where they want one; nothing is computed for those that
        do not.
    """
    linear = head.linear
    size = chunk or chunk_tokens(_vocab_of(head), hidden.device)
    if linear is None:
        return _through_module(hidden, labels, head, size)
    weight: Tensor = linear.weight
    bias = cast("Tensor | None", linear.bias)
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    with torch.autocast(kind, enabled=False):
        values = _ChunkedLogps.apply(hidden, weight, bias, labels, head.scale, head.softcap, size, tied)
    return cast("Tensor", values)


def _vocab_of(head: LogitHead) -> int:
    weight = getattr(head.module, "weight", None)
    return int(getattr(head.module, "out_features", 0) or (weight.shape[0] if isinstance(weight, Tensor) else 2**15))


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
        size: int,
        tied: TiedGradient | None,
    ) -> Tensor:
        precise = at_least_float32(hidden[:0]).dtype
        logps = hidden.new_empty(labels.shape, dtype=precise)
        totals = torch.empty_like(logps)
        for start in range(0, labels.shape[0], size):
            here = slice(start, start + size)
            logits = shaped_logits(_raw(hidden[here], weight, bias), scale, softcap)
            # One fused pass over the logits, several times quicker than logsumexp on a CPU.
            normal = torch.log_softmax(logits, dim=-1)
            at = labels[here].unsqueeze(-1)
            logps[here] = normal.gather(-1, at).squeeze(-1)
            totals[here] = logits.gather(-1, at).squeeze(-1) - logps[here]
        ctx.save_for_backward(hidden, weight, bias, labels, totals)
        ctx.scale, ctx.softcap, ctx.size, ctx.tied = scale, softcap, size, tied
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
        for start in range(0, labels.shape[0], ctx.size):
            here = slice(start, start + ctx.size)
            states, slope = hidden[here], given[here].unsqueeze(-1)
            logits = shaped_logits(_raw(states, weight, bias), ctx.scale, ctx.softcap)
            bend = None if ctx.softcap is None else 1.0 - (logits / ctx.softcap).square_()
            # softmax − one-hot, in place of the logits; its sign and the incoming gradient are put on the small side.
            excess = logits.sub_(totals[here].unsqueeze(-1)).exp_()
            excess.scatter_add_(-1, labels[here].unsqueeze(-1), torch.full_like(slope, -1.0, dtype=precise))
            if bend is not None:
                excess.mul_(bend)
            small = excess.to(weight.dtype)
            slope = slope.to(precise) * -ctx.scale
            if by_hidden is not None:
                by_hidden[here] = (small @ weight).to(precise).mul_(slope).to(hidden.dtype)
            if by_weight is not None:
                pushed = (states.to(precise) * slope).to(weight.dtype)
                if by_weight.dtype == weight.dtype:
                    by_weight.addmm_(small.t(), pushed)
                else:
                    by_weight.add_(small.t() @ pushed)
            if by_bias is not None:
                by_bias.add_((excess * slope).sum(dim=0))
        if by_weight is not None and ctx.tied is not None:
            ctx.tied.add(by_weight)
            by_weight = None
        return (
            by_hidden,
            None if by_weight is None else by_weight.to(weight.dtype),
            None if by_bias is None else by_bias.to(bias.dtype),
            None,
            None,
            None,
            None,
            None,
        )


def _raw(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits of a chunk, float32 or float64, in memory of its own."""
    logits = states @ weight.t() if bias is None else torch.addmm(bias, states, weight.t())
    return at_least_float32(logits)
