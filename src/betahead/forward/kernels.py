"""Attention of trunks and branches by scaled_dot_product_attention: on a CPU, and on any GPU."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from betahead.forward.layout import TrunkLayout
from betahead.forward.token_logps import at_least_float32

# Measured on CPU cores (bench/attention.py): a masked score costs about 0.6 of a causal one, because it skips the
# gathering of keys, and every call beyond that as much as 5,000 causal scores.
_MASKED_SCORE = 0.6
_CALL = 5_000


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """What a layer asks of its attention besides queries, keys and values.

    Args:
        scaling: of the scores; None for 1/√width.
        dropout: of the attention weights.
        window: how many tokens back a token may look, itself included; None for all.
        softcap: c of c·tanh(score/c), applied before the mask; None for none.
    """

    scaling: float | None = None
    dropout: float = 0.0
    window: int | None = None
    softcap: float | None = None


def masked_branches(
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 groups tokens width"],
    value: Float[Tensor, "1 groups tokens value_width"],
    layout: TrunkLayout,
    settings: AttentionSettings,
) -> Float[Tensor, "1 tokens heads value_width"]:
    """Attention under the layout, as one padded call with masks or one call per span, whichever costs less."""
    key, value = _repeated(key, query.shape[1]), _repeated(value, query.shape[1])
    by_row = prefers_rows(layout.spans)
    return (_by_row if by_row else _by_span)(query, key, value, layout, settings)


def prefers_rows(spans: tuple[tuple[int, ...], ...]) -> bool:
    """Whether one padded call over all pairs is predicted to cost less than a call for every span."""
    longest = max(sum(span) for span in spans)
    padded = len(spans) * longest**2
    apart, calls = 0.0, 0
    for prompt, first, *others in spans:
        apart += (prompt + first) ** 2 / 2 + sum(answer * (prompt + answer) for answer in others)
        calls += 1 + len(others)
    return _MASKED_SCORE * padded < apart + _CALL * calls


def _by_row(
    query: Tensor, key: Tensor, value: Tensor, layout: TrunkLayout, settings: AttentionSettings
) -> Float[Tensor, "1 tokens heads value_width"]:
    rows = layout.rows
    pairs, longest = rows.token_at.shape

    def padded(states: Tensor) -> Tensor:
        # [1, heads, tokens, width] to [pairs, heads, longest, width]
        picked = states[0].index_select(1, rows.token_at.flatten())
        return picked.unflatten(1, (pairs, longest)).transpose(0, 1)

    out = _attention(padded(query), padded(key), padded(value), layout.row_mask(settings.window), settings)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, rows.place_of).unsqueeze(0)


def _by_span(
    query: Tensor, key: Tensor, value: Tensor, layout: TrunkLayout, settings: AttentionSettings
) -> Float[Tensor, "1 tokens heads value_width"]:
    outs: list[Tensor] = []
    for start, (prompt, first, *others) in zip(layout.starts, layout.spans, strict=True):
        # The prompt and its first answer are one causal sequence.
        begins = start + prompt + first
        own = slice(start, begins)
        outs.append(_causal(query[:, :, own], key[:, :, own], value[:, :, own], layout, settings))
        for answer in others:
            ends = begins + answer
            keys, values = (
                torch.cat([one[:, :, start : start + prompt], one[:, :, begins:ends]], 2) for one in (key, value)
            )
            mask = layout.branch_mask(prompt, answer, settings.window)
            outs.append(_attention(query[:, :, begins:ends], keys, values, mask, settings))
            begins = ends
    return torch.cat(outs, dim=2).transpose(1, 2)


def _causal(
    query: Tensor, key: Tensor, value: Tensor, layout: TrunkLayout, settings: AttentionSettings
) -> Float[Tensor, "1 heads queries value_width"]:
    tokens = query.shape[2]
    narrow = settings.window is not None and settings.window < tokens
    if narrow or settings.softcap is not None:
        return _attention(query, key, value, layout.branch_mask(0, tokens, settings.window), settings)
    return F.scaled_dot_product_attention(
        query, key, value, dropout_p=settings.dropout, scale=settings.scaling, is_causal=True
    )


def _attention(
    query: Float[Tensor, "rows heads queries width"],
    key: Float[Tensor, "rows heads keys width"],
    value: Float[Tensor, "rows heads keys value_width"],
    mask: Bool[Tensor, "*broadcast queries keys"],
    settings: AttentionSettings,
) -> Float[Tensor, "rows heads queries value_width"]:
    if settings.softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=settings.dropout, scale=settings.scaling
        )
    scale = query.shape[-1] ** -0.5 if settings.scaling is None else settings.scaling
    scores = torch.tanh(query @ key.transpose(-1, -2) * (scale / settings.softcap)) * settings.softcap
    weights = at_least_float32(scores).masked_fill(~mask, -torch.inf).softmax(dim=-1).to(value.dtype)
    return F.dropout(weights, settings.dropout, training=settings.dropout > 0) @ value


def _repeated(states: Float[Tensor, "1 groups tokens width"], heads: int) -> Float[Tensor, "1 heads tokens width"]:
    groups = states.shape[1]
    return states if groups == heads else states.repeat_interleave(heads // groups, dim=1)
