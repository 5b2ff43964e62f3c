"""Attention of trunks and branches by one call of the variable-length kernel of torch, on CUDA."""

import inspect
from functools import cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.forward.kernels import AttentionSettings
from betahead.forward.layout import TrunkLayout

_WIDEST_HEAD = 256
_DTYPES = frozenset({torch.float16, torch.bfloat16})


def varlen_serves(
    query: Float[Tensor, "1 heads tokens width"],
    value: Float[Tensor, "1 groups tokens value_width"],
    settings: AttentionSettings,
) -> str | None:
    """None where the kernel can be used; otherwise why not, as words that follow "it"."""
    width, kind = query.shape[-1], query.device.type
    if kind != "cuda":
        return f"needs CUDA, but the model is on {kind}"
    odd_width = width > _WIDEST_HEAD or width % 8 != 0 or value.shape[-1] != width
    against = {
        f"computes in float16 or bfloat16, but the model in {query.dtype}": query.dtype not in _DTYPES,
        "needs a device of compute capability 8.0 or newer": torch.cuda.get_device_capability(query.device) < (8, 0),
        "knows no softcap of scores": settings.softcap is not None,
        "drops no attention weights": settings.dropout > 0,
        f"wants heads of a width that is a multiple of 8 up to {_WIDEST_HEAD}, but they have {width}": odd_width,
        "needs torch.nn.attention.varlen.varlen_attn of torch 2.11 or newer": _kernel() is None,
    }
    return next((reason for reason, holds in against.items() if holds), None)


def varlen_branches(
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 groups tokens width"],
    value: Float[Tensor, "1 groups tokens width"],
    layout: TrunkLayout,
    settings: AttentionSettings,
) -> Float[Tensor, "1 tokens heads width"]:
    """Attention under the layout: the queries of every sequence are the last of its keys, which are gathered."""
    sequences = layout.sequences
    kernel = _kernel()
    assert kernel is not None
    keys, values = (one[0].transpose(0, 1).index_select(0, sequences.key_at) for one in (key, value))
    groups = {"enable_gqa": query.shape[1] != key.shape[1]} if _asks_for_groups() else {}
    back = -1 if settings.window is None else settings.window - 1
    out: Tensor = kernel(
        query[0].transpose(0, 1).contiguous(),
        keys,
        values,
        sequences.cu_queries,
        sequences.cu_keys,
        sequences.most_queries,
        sequences.most_keys,
        scale=settings.scaling,
        window_size=(back, 0),
        **groups,
    )
    return out.unsqueeze(0)


@cache
def _kernel() -> Any | None:
    try:
        varlen_attn: Any = import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):
        return None
    return varlen_attn if {"scale", "window_size"} <= set(inspect.signature(varlen_attn).parameters) else None


@cache
def _asks_for_groups() -> bool:
    """Whether this version of the kernel wants to be told that key heads are shared; an older one sees it."""
    return "enable_gqa" in inspect.signature(_kernel() or (lambda: None)).parameters
