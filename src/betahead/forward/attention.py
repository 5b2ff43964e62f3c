"""Attention over trunks and branches, as a function that unpatched `transformers` models call by name.

A model prepared by `sharing_attention` behaves as before whenever no layout is passed to its forward; with one, every
answer of the packed batch looks at its prompt and at itself only. The layout travels as a keyword argument of the
model's forward, which also makes it part of what gradient checkpointing calls again in the backward pass.
"""

import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from betahead.errors import ConfigError
from betahead.forward.flex import flex_branches, flex_serves
from betahead.forward.kernels import AttentionSettings, masked_branches
from betahead.forward.layout import TrunkLayout
from betahead.forward.varlen import varlen_branches, varlen_serves

LAYOUT = "trunk_layout"
"""The keyword by which a layout travels through a model's forward to its attention."""

_PREFIX = "trunks_over_"

# Attention that adds something of its own to the scores cannot be split into trunks and branches unseen. Whatever
# tensor a layer passes may be such a thing, but for those that only say where tokens stand.
_FOREIGN = frozenset({"s_aux", "sinks", "position_bias", "head_mask", "block_indices", "indices"})
_HARMLESS = frozenset({"position_ids", "cache_position", "cu_seq_lens_q", "cu_seq_lens_k"})


class KernelError(ConfigError):
    """A kernel was asked for by name that cannot carry a model's attention out."""


def sharing_attention(model: PreTrainedModel) -> None:
    """Let a model's attention understand layouts; its attention without one stays what it was.

    Done again it changes nothing. Configs that are saved do not mention it.

    Raises:
        ConfigError: for attention that cannot be replaced by name.
    """
    config: Any = model.config.get_text_config()
    inner = config._attn_implementation or "eager"
    if inner.startswith(_PREFIX):
        return
    name = _PREFIX + inner
    if inner != "eager" and inner not in ALL_ATTENTION_FUNCTIONS:
        raise ConfigError(
            f"`forward.kind` must be separate for attention called {inner!r}, because it is not one of "
            f"{', '.join(sorted(ALL_ATTENTION_FUNCTIONS))}."
        )
    if inner in ALL_MASK_ATTENTION_FUNCTIONS:
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[inner])
    AttentionInterface.register(name, _attention_over(inner))
    for part in {id(one): one for one in (model.config, config)}.values():
        cast("Any", part)._attn_implementation = name


def unsharing_attention(model: PreTrainedModel) -> None:
    """Undo `sharing_attention`."""
    config: Any = model.config.get_text_config()
    for part in {id(one): one for one in (model.config, config)}.values():
        name: str = cast("Any", part)._attn_implementation or ""
        if name.startswith(_PREFIX):
            cast("Any", part)._attn_implementation = name.removeprefix(_PREFIX)


def _attention_over(inner: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    # What a layout works out differs from batch to batch: compiled blocks would be compiled anew for each.
    uncompiled: Callable[..., Tensor] = cast("Any", torch.compiler.disable)(branch_attention)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        layout: TrunkLayout | None = kwargs.pop(LAYOUT, None)
        if layout is not None:
            return uncompiled(module, query, key, value, layout, **kwargs), None
        plain = _eager_of(module) if inner == "eager" else ALL_ATTENTION_FUNCTIONS[inner]
        return cast("tuple[Tensor, Tensor | None]", plain(module, query, key, value, attention_mask, **kwargs))

    return attention


def _eager_of(module: nn.Module) -> Callable[..., Any]:
    """The attention written out in the file of a model's class: `transformers` keeps no table of these."""
    return cast("Callable[..., Any]", sys.modules[type(module).__module__].eager_attention_forward)


def branch_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 groups tokens width"],
    value: Float[Tensor, "1 groups tokens value_width"],
    layout: TrunkLayout,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> Float[Tensor, "1 tokens heads value_width"]:
    """Attention of a packed batch under its layout, by the kernel that the layout names.

    Args:
        module: the calling attention layer; only its `head_dim` default scale matters, by way of `scaling`.
        query: queries with positions applied; heads are a multiple of the keys' groups.
        key: keys.
        value: values.
        layout: who may look at whom.
        scaling: of the scores; None for 1/√width.
        dropout: of the attention weights.
        sliding_window: how many tokens back a token may look, itself included.
        softcap: c of c·tanh(score/c), applied before the mask.
        others: what the layer passes besides.

    Raises:
        ConfigError: for attention with parts that no kernel here knows.
        KernelError: for a kernel that cannot serve it.
    """
    foreign = sorted(
        name
        for name, given in others.items()
        if given is not None and (name in _FOREIGN or (isinstance(given, Tensor) and name not in _HARMLESS))
    )
    if foreign:
        raise ConfigError(
            f"`forward.kind` must be separate for {type(module).__name__}, because its attention takes "
            f"{', '.join(foreign)}, which a shared prompt would miss."
        )
    layout.windows.add(sliding_window)
    query, key, value = _as_autocast(query, key, value)
    settings = AttentionSettings(scaling=scaling, dropout=dropout, window=sliding_window, softcap=softcap)
    if layout.kernel == "flex":
        reason = flex_serves(query, settings)
        if reason is not None:
            raise KernelError(f"`forward.attention` must be auto or sdpa here, but is flex instead; it {reason}.")
        return flex_branches(query, key, value, layout, settings)
    reason = varlen_serves(query, value, settings)
    if layout.kernel == "varlen" and reason is not None:
        raise KernelError(f"`forward.attention` must be auto, sdpa or flex here, but is varlen instead; it {reason}.")
    if layout.kernel == "auto" and reason is not None:
        layout.declined.add(reason)
    if layout.kernel == "sdpa" or reason is not None:
        return masked_branches(query, key, value, layout, settings)
    return varlen_branches(query, key, value, layout, settings)


def _as_autocast(*states: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values in the precision that autocast would give every product of them.

    Rotary positions leave float32 behind, which torch's own attention casts by itself and the kernels here do not.
    """
    kind = states[0].device.type
    if not torch.is_autocast_enabled(kind):
        return states
    dtype = torch.get_autocast_dtype(kind)
    return tuple(one if one.dtype == torch.float64 else one.to(dtype) for one in states)
