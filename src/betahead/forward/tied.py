"""One gradient for a weight that embeds the tokens and predicts them.

Tied, the weight gets two gradients of vocabulary × width: from the logits when the backward pass begins, and from the
embedding when it ends. Left alone, both are there at once, and their sum beside them. Here the logits use the weight as
it comes out of the embedding, so that their part passes through the embedding's backward, which adds its few rows to
it: the gradient itself is all that is ever held. Nothing but the graph carries it there, whether that is walked once,
in parts or again.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from betahead.forward.logit_head import LogitHead, untouched


def tied_embedding(embedder: nn.Module, head: LogitHead) -> nn.Embedding | None:
    """The embedding whose weight is also that of the logits and learns, or None where the two have to go their ways.

    That is where they are not tied or frozen, and where something else looks at the embedding or changes it: adapters,
    hooks, a scale of its own.
    """
    linear = head.linear
    if linear is None or type(embedder) is not nn.Embedding or not untouched(embedder):
        return None
    plain = embedder.max_norm is None and not embedder.sparse and not embedder.scale_grad_by_freq
    tied = embedder.weight is linear.weight and embedder.weight.requires_grad and torch.is_grad_enabled()
    return embedder if plain and tied else None


def embedded(
    embedder: nn.Embedding, ids: Int[Tensor, " tokens"]
) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "vocab hidden"]]:
    """The embeddings of tokens, and the weight to make the logits with; in the backward pass it gets one gradient.

    Args:
        embedder: from `tied_embedding`.
        ids: token ids.

    Returns:
        (embeddings, weight); the second for `chunked_token_logps` alone, whose gradient of it is changed in place.
    """
    states, weight = _apart(embedder.weight, ids, embedder.padding_idx)
    return states, weight


class _Embedded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(ids)
        ctx.padding, ctx.like = padding, weight.detach()
        return embedding(ids, weight), weight.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        by_states, by_logits = gradients
        (ids,) = ctx.saved_tensors
        whole = torch.zeros_like(ctx.like) if by_logits is None else by_logits
        if by_states is not None:
            if ctx.padding is not None:
                by_states = by_states.masked_fill((ids == ctx.padding).unsqueeze(-1), 0.0)
            whole.index_add_(0, ids, by_states.to(whole.dtype))
        return whole, None, None


# A compiler would copy a gradient that is changed in place.
_apart: Any = cast("Any", torch.compiler.disable)(_Embedded.apply)
