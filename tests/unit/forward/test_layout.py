"""The layout against its definition, written out token by token; any number of answers per prompt."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from betahead.forward.kernels import prefers_rows
from betahead.forward.layout import TrunkLayout

CPU = torch.device("cpu")
SPAN = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(tuple)
SPANS = st.lists(SPAN, min_size=1, max_size=4).map(tuple)
WINDOW = st.none() | st.integers(1, 6)


@dataclass(frozen=True)
class Token:
    pair: int
    branch: int
    position: int


def tokens_of(spans: tuple[tuple[int, ...], ...]) -> list[Token]:
    found: list[Token] = []
    for pair, (prompt, *answers) in enumerate(spans):
        found += [Token(pair, 0, position) for position in range(prompt)]
        for branch, answer in enumerate(answers, start=1):
            found += [Token(pair, branch, prompt + place) for place in range(answer)]
    return found


def sees(query: Token, key: Token, window: int | None) -> bool:
    if query.pair != key.pair or key.branch not in (0, query.branch) or key.position > query.position:
        return False
    return window is None or query.position - key.position < window


@settings(deadline=None)
@given(SPANS)
def test_roles_are_those_of_the_tokens(spans: tuple[tuple[int, ...], ...]) -> None:
    layout = TrunkLayout(spans, CPU)
    tokens = tokens_of(spans)
    assert layout.tokens == len(tokens)
    for values, name in zip(layout.roles, ("pair", "branch", "position"), strict=True):
        assert values.tolist() == [getattr(token, name) for token in tokens]
    for start, number in zip(layout.starts, range(len(spans)), strict=True):
        assert tokens[start] == Token(number, 0, 0)


@settings(deadline=None)
@given(SPANS, WINDOW)
def test_row_masks_let_each_token_see_its_prompt_and_its_answer_so_far(
    spans: tuple[tuple[int, ...], ...], window: int | None
) -> None:
    layout = TrunkLayout(spans, CPU)
    tokens, rows, mask = tokens_of(spans), layout.rows, layout.row_mask(window)
    pairs, longest = rows.token_at.shape
    assert mask.shape == (pairs, 1, longest, longest)
    for pair in range(pairs):
        real = sum(spans[pair])
        for place in range(longest):
            token = tokens[rows.token_at[pair, place]]
            if place >= real:
                assert rows.token_at[pair, place] == layout.starts[pair]
                assert mask[pair, 0, place].nonzero().flatten().tolist() == [place]
                continue
            seen = [k for k in range(real) if sees(token, tokens[rows.token_at[pair, k]], window)]
            assert mask[pair, 0, place].nonzero().flatten().tolist() == seen


@settings(deadline=None)
@given(SPANS)
def test_rows_hold_each_token_once_and_are_undone_by_the_places(spans: tuple[tuple[int, ...], ...]) -> None:
    layout = TrunkLayout(spans, CPU)
    assert layout.rows.token_at.flatten()[layout.rows.place_of].tolist() == list(range(layout.tokens))
    assert layout.rows.token_at.shape == (len(spans), max(sum(span) for span in spans))


@settings(deadline=None)
@given(SPANS, WINDOW)
def test_sequences_end_in_their_queries_and_see_what_a_causal_kernel_lets_them(
    spans: tuple[tuple[int, ...], ...], window: int | None
) -> None:
    layout = TrunkLayout(spans, CPU)
    tokens, sequences = tokens_of(spans), layout.sequences
    assert sequences.cu_queries.dtype == sequences.cu_keys.dtype == torch.int32
    queries, keys = np.diff(sequences.cu_queries.numpy()), np.diff(sequences.cu_keys.numpy())
    assert sequences.cu_queries[-1] == layout.tokens
    assert len(queries) == len(keys) == sum(len(span) - 1 for span in spans)
    assert (sequences.most_queries, sequences.most_keys) == (queries.max(), keys.max())
    for number, (asked, shown) in enumerate(zip(queries, keys, strict=True)):
        begins = int(sequences.cu_queries[number])
        at = sequences.key_at[sequences.cu_keys[number] : sequences.cu_keys[number + 1]].tolist()
        assert at[len(at) - asked :] == list(range(begins, begins + asked))
        for place in range(asked):
            # A causal kernel aligns the last query with the last key, and counts a window in places.
            last = shown - asked + place
            first = 0 if window is None else max(0, last - window + 1)
            wanted = [k for k, key in enumerate(tokens) if sees(tokens[begins + place], key, window)]
            assert sorted(at[first : last + 1]) == wanted


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(1, 6), WINDOW)
def test_branch_masks_are_the_last_rows_of_a_causal_mask(prompt: int, answer: int, window: int | None) -> None:
    mask = TrunkLayout(((1, 1),), CPU).branch_mask(prompt, answer, window)
    assert mask.shape == (answer, prompt + answer)
    for query in range(answer):
        for key in range(prompt + answer):
            back = prompt + query - key
            assert mask[query, key].item() == (back >= 0 and (window is None or back < window))


def test_masks_and_indices_are_worked_out_once_a_batch() -> None:
    layout = TrunkLayout(((3, 2, 2), (1, 1, 4)), CPU)
    assert layout.row_mask(2) is layout.row_mask(2)
    assert layout.row_mask(2) is not layout.row_mask(None)
    assert layout.branch_mask(3, 2, None) is layout.branch_mask(3, 2, None)
    assert layout.sequences is layout.sequences
    assert layout.rows is layout.rows


@pytest.mark.parametrize(
    ("spans", "rows"),
    [
        # Short rows of one length are cheapest in one call, few long answers after long prompts apart.
        (((8, 4, 4),) * 8, True),
        (((300, 40, 40), (3, 2, 2)), False),
        (((20, 400, 400),), False),
    ],
)
def test_the_cheaper_of_both_kernels_is_chosen(spans: tuple[tuple[int, ...], ...], rows: bool) -> None:
    assert prefers_rows(spans) == rows
