"""One gradient for a weight that embeds the tokens and predicts them.

Tied, the weight gets two gradients of vocabulary × width: from the logits when the backward pass begins, and from the
embedding when it ends. Left alone, both are there at once, and their sum beside them. Here the embedding adds its few
rows to what the logits left, so that the gradient itself is all that is ever held.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from betahead.forward.logit_head import LogitHead, untouched


class TiedGradient:
    """Holds the logits' part of a tied weight's gradient until the embedding's part is there.

    Args:
        dtype: of the weight, and so of its gradient.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._held: Tensor | None = None

    def add(self, gradient: Float[Tensor, "vocab hidden"]) -> None:
        """Keep a part; it is changed from here on."""
        part = gradient.to(self.dtype)
        self._held = part if self._held is None else self._held.add_(part)

    def taken(self) -> Float[Tensor, "vocab hidden"] | None:
        """What was kept, and nothing afterwards."""
        held, self._held = self._held, None
        return held


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
    embedder: nn.Embedding, ids: Int[Tensor, " tokens"], gradient: TiedGradient
) -> Float[Tensor, "tokens hidden"]:
    """The embeddings of tokens; in the backward pass the weight gets its whole gradient here.

    Args:
        embedder: from `tied_embedding`.
        ids: token ids.
        gradient: where `chunked_token_logps` leaves the logits' part.
    """
    return cast("Tensor", _Embedded.apply(embedder.weight, ids, embedder.padding_idx, gradient))


class _Embedded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None, gradient: TiedGradient) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.padding, ctx.gradient, ctx.like = padding, gradient, weight.detach()
        return embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (given,) = gradients
        (ids,) = ctx.saved_tensors
        if ctx.padding is not None:
            given = given.masked_fill((ids == ctx.padding).unsqueeze(-1), 0.0)
        whole = ctx.gradient.taken()
        if whole is None:
            whole = torch.zeros_like(ctx.like)
        whole.index_add_(0, ids, given.to(whole.dtype))
        return whole, None, None, None
