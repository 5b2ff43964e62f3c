"""Both ways of carrying attention out, against a softmax over the tokens that each one sees, in float64."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from betahead.forward import kernels
from betahead.forward.kernels import AttentionSettings, masked_branches
from betahead.forward.layout import TrunkLayout

SPANS = st.lists(st.lists(st.integers(1, 5), min_size=2, max_size=4).map(tuple), min_size=1, max_size=3).map(tuple)
ASKED = st.builds(
    AttentionSettings,
    scaling=st.none() | st.floats(0.1, 2.0),
    window=st.none() | st.integers(1, 6),
    softcap=st.none() | st.floats(0.5, 5.0),
)


def naive(query: Tensor, key: Tensor, value: Tensor, spans: Any, asked: AttentionSettings) -> Tensor:
    """One query after the other, over a list of the keys that it sees."""
    owner = [
        (pair, branch, (0 if branch == 0 else span[0]) + place)
        for pair, span in enumerate(spans)
        for branch, count in enumerate(span)
        for place in range(count)
    ]
    heads, groups = query.shape[1], key.shape[1]
    scale = query.shape[-1] ** -0.5 if asked.scaling is None else asked.scaling
    out: list[Tensor] = []
    for at, (pair, branch, position) in enumerate(owner):
        seen = [
            other
            for other, (its_pair, its_branch, its_position) in enumerate(owner)
            if its_pair == pair
            and its_branch in (0, branch)
            and 0 <= position - its_position < (asked.window or len(owner))
        ]
        for head in range(heads):
            group = head * groups // heads
            scores = scale * (key[0, group, seen] @ query[0, head, at])
            if asked.softcap is not None:
                scores = asked.softcap * torch.tanh(scores / asked.softcap)
            out.append(torch.exp(scores - torch.logsumexp(scores, 0)) @ value[0, group, seen])
    return torch.stack(out).reshape(1, len(owner), heads, -1)


@pytest.mark.parametrize("by_row", [True, False], ids=["padded rows", "spans"])
@given(spans=SPANS, asked=ASKED, shape=st.sampled_from([(4, 2), (2, 2), (3, 1)]), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_values_and_gradients_equal_the_naive_computation(
    by_row: bool, spans: Any, asked: AttentionSettings, shape: tuple[int, int], seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    tokens = sum(sum(span) for span in spans)
    given_states = [
        torch.randn(1, heads, tokens, width, generator=draw, dtype=torch.float64, requires_grad=True)
        for heads, width in ((shape[0], 4), (shape[1], 4), (shape[1], 3))
    ]
    slope = torch.randn(1, tokens, shape[0], 3, generator=draw, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "prefers_rows", lambda *_: by_row)
        found = masked_branches(*given_states, TrunkLayout(spans, torch.device("cpu")), asked)
    wanted = naive(*given_states, spans, asked)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    slopes, wanted_slopes = (torch.autograd.grad(one, given_states, slope) for one in (found, wanted))
    for one, other in zip(slopes, wanted_slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("by_row", [True, False], ids=["padded rows", "spans"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_half_precision_stays_and_is_near_the_naive_computation(
    by_row: bool, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "prefers_rows", lambda *_: by_row)
    spans, asked = ((5, 4, 3, 2), (2, 6, 1)), AttentionSettings(window=4, softcap=softcap)
    exact = [torch.randn(1, heads, 23, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    found = masked_branches(*(one.bfloat16() for one in exact), TrunkLayout(spans, torch.device("cpu")), asked)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), naive(*exact, spans, asked), rtol=0.05, atol=0.05)


def test_rows_and_spans_drop_the_share_of_weights_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = ((6, 5, 5),) * 40
    tokens = 16 * 40
    query = key = torch.zeros(1, 1, tokens, 4)
    # Values of one: without dropout every output is one, with it the mean stays one.
    value = torch.ones(1, 1, tokens, 4)
    for by_row in (True, False):
        for softcap in (None, 1.0):
            monkeypatch.setattr(kernels, "prefers_rows", lambda *_, by_row=by_row: by_row)
            layout = TrunkLayout(spans, torch.device("cpu"))
            asked = AttentionSettings(dropout=0.5, softcap=softcap)
            out = masked_branches(query, key, value, layout, asked)[..., 0]
            assert out.std() > 0.1
            assert out.mean().item() == pytest.approx(1.0, abs=0.1)
