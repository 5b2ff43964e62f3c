"""What the variable-length kernel is called with, against a stand-in that follows its documentation on any device."""

import inspect
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from betahead.forward import varlen
from betahead.forward.kernels import AttentionSettings, masked_branches
from betahead.forward.layout import TrunkLayout
from betahead.forward.varlen import varlen_branches

SPANS = st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple), min_size=1, max_size=3).map(tuple)


def documented(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """Sequences one after the other; the last query stands where the last key does; a window of −1 has no end."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert query.is_contiguous() and key.is_contiguous() and value.is_contiguous()
    lengths_q, lengths_k = cu_seq_q.diff(), cu_seq_k.diff()
    assert (max_q, max_k) == (int(lengths_q.max()), int(lengths_k.max()))
    assert (query.shape[0], key.shape[0], value.shape[0]) == (int(cu_seq_q[-1]), int(cu_seq_k[-1]), int(cu_seq_k[-1]))
    left, right = window_size
    out: list[Tensor] = []
    for number in range(len(lengths_q)):
        q = query[int(cu_seq_q[number]) : int(cu_seq_q[number + 1])].transpose(0, 1)
        k, v = (one[int(cu_seq_k[number]) : int(cu_seq_k[number + 1])].transpose(0, 1) for one in (key, value))
        k, v = (one.repeat_interleave(q.shape[0] // one.shape[0], 0) for one in (k, v))
        place = torch.arange(q.shape[1]).unsqueeze(1) + k.shape[1] - q.shape[1]
        back = place - torch.arange(k.shape[1])
        ends = [end if end >= 0 else k.shape[1] for end in (left, right)]
        seen = (back <= ends[0]) & (-back <= ends[1])
        scores = q @ k.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        out.append((scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(out)


@settings(deadline=None)
@given(
    spans=SPANS,
    window=st.none() | st.integers(1, 6),
    scaling=st.none() | st.floats(0.1, 2.0),
    heads=st.sampled_from([(4, 2), (2, 2)]),
)
def test_the_kernel_gives_masked_attention(
    spans: Any, window: int | None, scaling: float | None, heads: tuple[int, int]
) -> None:
    tokens = sum(sum(span) for span in spans)
    states = [
        torch.randn(1, count, tokens, 8, dtype=torch.float64, requires_grad=True)
        for count in (heads[0], *heads[1:] * 2)
    ]
    layout, asked = TrunkLayout(spans, torch.device("cpu")), AttentionSettings(window=window, scaling=scaling)
    with pytest.MonkeyPatch.context() as patch:
        varlen._asks_for_groups.cache_clear()
        patch.setattr(varlen, "_kernel", lambda: documented)
        found = varlen_branches(*states, layout, asked)
    varlen._asks_for_groups.cache_clear()
    wanted = masked_branches(*states, layout, asked)
    torch.testing.assert_close(found, wanted)
    slopes, others = (torch.autograd.grad(one.square().sum(), states) for one in (found, wanted))
    for one, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(one, other)


def test_the_kernel_of_torch_has_the_arguments_that_it_is_called_with() -> None:
    kernel = varlen._kernel()
    assert kernel is not None

    names = list(inspect.signature(kernel).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"scale", "window_size"} <= set(names)
