"""Attention of trunks and branches by FlexAttention: any mask, any softcap, but no backward pass on a CPU."""

from functools import cache
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from betahead.forward.kernels import AttentionSettings
from betahead.forward.layout import TrunkLayout

# torch counts the arguments of the functions that it is given, which a checker of types around them would hide.


def flex_serves(query: Float[Tensor, "1 heads tokens width"], settings: AttentionSettings) -> str | None:
    """None where FlexAttention can be used; otherwise why not, as words that follow "it"."""
    against = {
        "drops no attention weights": settings.dropout > 0,
        "has no backward pass on a CPU": query.device.type == "cpu" and torch.is_grad_enabled() and query.requires_grad,
    }
    return next((reason for reason, holds in against.items() if holds), None)


def flex_branches(
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 groups tokens width"],
    value: Float[Tensor, "1 groups tokens value_width"],
    layout: TrunkLayout,
    settings: AttentionSettings,
) -> Float[Tensor, "1 tokens heads value_width"]:
    """Attention under the layout, as one call over all pairs whose empty blocks are skipped."""
    cap = settings.softcap

    @no_type_check
    def capped(score: Tensor, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert cap is not None
        return cap * torch.tanh(score / cap)

    run: Any = _compiled() if query.device.type == "cuda" else flex_attention
    out: Tensor = run(
        query,
        key,
        value,
        score_mod=None if cap is None else capped,
        block_mask=_block_mask(layout, settings.window),
        scale=settings.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2)


def _block_mask(layout: TrunkLayout, window: int | None) -> BlockMask:
    found = layout.block_masks.get(window)
    if found is None:
        pair, branch, position = layout.roles
        most = layout.tokens if window is None else window

        @no_type_check
        def seen(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            back = position[q] - position[k]
            own = (branch[k] == 0) | (branch[k] == branch[q])
            return (pair[q] == pair[k]) & own & (back >= 0) & (back < most)

        found = create_block_mask(seen, None, None, layout.tokens, layout.tokens, device=str(layout.device))
        layout.block_masks[window] = found
    return found


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=True)
