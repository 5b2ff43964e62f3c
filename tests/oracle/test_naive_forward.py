"""The forward pass against one row at a time, without padding, in float64 loops."""

import math
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.rule import Need
from betahead.data.collate import PairCollator
from betahead.forward.prompt import LOG_PPL_FLOOR, log_ppl_of
from betahead.forward.separate import selected_logps, separate_forward
from betahead.forward.token_logps import token_logps
from betahead.types import PairBatch

EVERYTHING = frozenset(Need)


def naive_log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    total = math.log(math.fsum(math.exp(value - top) for value in row)) + top
    return [value - total for value in row]


matrices = st.integers(1, 6).flatmap(
    lambda rows: st.integers(1, 6).flatmap(
        lambda vocab: st.tuples(
            st.lists(st.lists(st.floats(-80, 80), min_size=vocab, max_size=vocab), min_size=rows, max_size=rows),
            st.lists(st.integers(0, vocab - 1), min_size=rows, max_size=rows),
        )
    )
)


@given(matrices)
def test_token_logps_equal_a_loop_over_the_softmax(case: tuple[list[list[float]], list[int]]) -> None:
    logits, labels = case
    wanted = [naive_log_softmax(row)[label] for row, label in zip(logits, labels, strict=True)]
    found = token_logps(torch.tensor(logits, dtype=torch.float64), torch.tensor(labels))
    assert found.tolist() == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    assert (found <= 1e-12).all()


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(2, 6), st.integers(2, 6))
def test_selected_logps_read_the_position_before_and_are_zero_elsewhere(
    seed: int, rows: int, tokens: int, vocab: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, tokens, vocab, generator=rng, dtype=torch.float64)
    ids = torch.randint(vocab, (rows, tokens), generator=rng)
    selected = torch.rand(rows, tokens, generator=rng) < 0.5
    selected[:, 0] = False
    found = selected_logps(logits, ids, selected)
    for row in range(rows):
        for token in range(tokens):
            wanted = 0.0
            if selected[row, token]:
                wanted = naive_log_softmax(logits[row, token - 1].tolist())[ids[row, token]]
            assert found[row, token].item() == pytest.approx(wanted, rel=1e-12)


@given(st.lists(st.lists(st.floats(-30, 0), max_size=5), min_size=1, max_size=5))
def test_log_ppl_is_the_floored_mean_over_the_counted_tokens(rows: list[list[float]]) -> None:
    summed = torch.tensor([math.fsum(row) for row in rows], dtype=torch.float64)
    found, known = log_ppl_of(summed, torch.tensor([len(row) for row in rows]))
    for i, row in enumerate(rows):
        assert known[i].item() == bool(row)
        wanted = max(-math.fsum(row) / len(row), LOG_PPL_FLOOR) if row else LOG_PPL_FLOOR
        assert found[i].item() == pytest.approx(wanted, rel=1e-12)


def coinciding() -> list[dict[str, Any]]:
    """Eight pairs of at most eight tokens, for a model of width eight over eight words: every axis has one size."""
    rng = torch.Generator().manual_seed(4)

    def ids(count: int) -> list[int]:
        return torch.randint(2, 8, (count,), generator=rng).tolist()

    lengths = [(4, 4, 1), (2, 3, 4), (3, 1, 2), (1, 4, 4), (4, 1, 4), (2, 2, 2), (1, 1, 1), (3, 4, 3)]
    return [
        {
            "prompt_ids": ids(p),
            "chosen_ids": ids(c),
            "rejected_ids": ids(r),
            "ppl_mask": [False] + [True] * (p - 1),
        }
        for p, c, r in lengths
    ]


@pytest.mark.parametrize("family", tiny.POLICIES)
def test_a_padded_batch_whose_axes_all_have_one_size_equals_rows_one_by_one(family: str) -> None:
    model = tiny.POLICIES[family](hidden_size=8, vocab_size=8).double().eval()
    rows = coinciding()
    pairs = PairBatch.from_dict(PairCollator(pad_token_id=0)(rows))
    assert pairs.pairs == pairs.input_ids.shape[1] == model.config.hidden_size == model.config.vocab_size == 8

    logps, features = separate_forward(model, pairs, EVERYTHING)
    assert features.log_ppl is not None and features.has_ppl is not None
    assert features.last_hidden is not None and features.hidden is not None and features.hidden_mask is not None
    for i, row in enumerate(rows):
        prompt = row["prompt_ids"]
        for answer, sums, counts in (
            (row["chosen_ids"], logps.chosen, logps.chosen_tokens),
            (row["rejected_ids"], logps.rejected, logps.rejected_tokens),
        ):
            with torch.no_grad():
                out = model(torch.tensor([prompt + answer]), output_hidden_states=True)
            each = [naive_log_softmax(values.tolist()) for values in out.logits[0]]
            wanted = math.fsum(each[len(prompt) + t - 1][token] for t, token in enumerate(answer))
            assert sums[i].item() == pytest.approx(wanted, rel=1e-9)
            assert counts[i].item() == len(answer)
        states = out.hidden_states[-1][0, : len(prompt)]
        torch.testing.assert_close(features.last_hidden[i], states[-1])
        torch.testing.assert_close(features.hidden[i][features.hidden_mask[i]], states)
        counted = [-each[t - 1][token] for t, token in enumerate(prompt) if t > 0]
        assert features.has_ppl[i].item() == bool(counted)
        if counted:
            wanted = max(math.fsum(counted) / len(counted), LOG_PPL_FLOOR)
            assert features.log_ppl[i].item() == pytest.approx(wanted, rel=1e-9)
