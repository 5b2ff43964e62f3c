import doctest

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from betahead.data import pack
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.types import PackedPairs, PairBatch, bundled

IDS = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@st.composite
def record(draw):
    ids = {name: draw(IDS) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    length = len(ids["prompt_ids"])
    counted = draw(st.lists(st.booleans(), min_size=length - 1, max_size=length - 1))
    return ids | {"ppl_mask": [False, *counted]}


RECORDS = st.lists(record(), min_size=1, max_size=5)


def test_the_example_in_the_docstring_is_true():
    found = doctest.testmod(pack)
    assert found.attempted == 10
    assert found.failed == 0


def scored(batch, rows, which):
    """(tokens that lead up to it, the token) of every label, per row of a packed batch."""
    tokens = getattr(batch, which)
    found = [[] for _ in range(rows)]
    for at, label, row in zip(tokens.at.tolist(), tokens.ids.tolist(), tokens.row.tolist(), strict=True):
        found[row].append((at, label))
    return found


@settings(deadline=None)
@given(RECORDS)
def test_the_same_tokens_are_scored_after_the_same_tokens_as_in_padded_rows(records):
    padded = PairBatch.from_dict(PairCollator(pad_token_id=0)(records))
    packed = PackedPairs.from_dict(PackedCollator()(records))
    pairs = len(records)
    assert packed.pairs == padded.pairs == pairs
    starts = [sum(sum(span) for span in packed.spans[:pair]) for pair in range(pairs)]
    answers = scored(packed, 2 * pairs, "answers")
    for row in range(2 * pairs):
        pair, answer = row % pairs, row // pairs
        start, (prompt, chosen, rejected) = starts[pair], packed.spans[pair]
        begins = start + prompt + (chosen if answer else 0)
        end = (chosen, rejected)[answer]
        places = [*range(start, start + prompt), *range(begins, begins + end)]
        ids = padded.input_ids[row][padded.attention_mask[row]].tolist()
        assert packed.input_ids[places].tolist() == ids
        assert packed.position_ids[places].tolist() == list(range(len(ids)))
        wanted = padded.completion_mask[row].nonzero().flatten().tolist()
        assert answers[row] == [(places[at - 1], ids[at]) for at in wanted]
    for pair, found in enumerate(scored(packed, pairs, "prompts")):
        ids = padded.input_ids[pair].tolist()
        wanted = padded.ppl_mask[pair].nonzero().flatten().tolist()
        assert found == [(starts[pair] + at - 1, ids[at]) for at in wanted]


@settings(deadline=None)
@given(RECORDS)
def test_prompts_can_be_read_back_from_their_places(records):
    packed = PackedPairs.from_dict(PackedCollator()(records))
    assert packed.prompt_tokens.tolist() == [len(one["prompt_ids"]) for one in records]
    assert packed.prompt_at.shape[1] == max(packed.prompt_tokens.tolist())
    for at, one in zip(packed.prompt_at, records, strict=True):
        length = len(one["prompt_ids"])
        assert packed.input_ids[at[:length]].tolist() == one["prompt_ids"]
        assert set(at[length:].tolist()) <= {int(at[length - 1])}


@settings(deadline=None)
@given(RECORDS)
def test_nothing_is_padded_and_every_number_is_long(records):
    batch = PackedCollator()(records)
    assert batch["input_ids"].shape == (sum(sum(span) for span in batch["spans"]),)
    tensors = {name: value for name, value in batch.items() if name != "spans"}
    assert {value.dtype for value in tensors.values()} == {torch.int64}
    assert all(isinstance(count, int) for span in batch["spans"] for count in span)
    assert bundled(batch).pairs == len(records)
    assert isinstance(bundled(batch), PackedPairs)


def test_prompts_without_counted_tokens_have_no_labels():
    rows = [
        {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "ppl_mask": [False]},
        {"prompt_ids": [1, 4], "chosen_ids": [2], "rejected_ids": [3], "ppl_mask": [False, False]},
    ]
    batch = PackedCollator()(rows)
    for name in ("ppl_at", "ppl_ids", "ppl_row"):
        assert batch[name].tolist() == []
        assert batch[name].dtype == torch.int64


def test_more_answers_follow_in_the_order_of_their_columns():
    rows = [
        {"prompt_ids": [1, 2], "a": [3], "b": [4, 5], "c": [6], "ppl_mask": [False, True]},
        {"prompt_ids": [7], "a": [8, 9], "b": [10], "c": [11, 12], "ppl_mask": [False]},
    ]
    batch = PackedCollator(answers=("a", "b", "c"))(rows)
    assert batch["spans"] == ((2, 1, 2, 1), (1, 2, 1, 2))
    assert batch["input_ids"].tolist() == list(range(1, 13))
    assert batch["position_ids"].tolist() == [0, 1, 2, 2, 3, 2, 0, 1, 2, 1, 1, 2]
    assert batch["answer_ids"].tolist() == [3, 8, 9, 4, 5, 10, 6, 11, 12]
    assert batch["answer_row"].tolist() == [0, 1, 1, 2, 2, 3, 4, 5, 5]
    assert batch["answer_at"].tolist() == [1, 6, 7, 1, 3, 6, 1, 6, 10]


def test_reference_columns_pass_when_every_pair_has_them():
    one = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "ppl_mask": [False]}
    reference = {"ref_chosen_logps": -1.5, "ref_rejected_logps": -2.0, "ref_log_ppl": 0.25}
    batch = PackedCollator()([one | reference, one | reference])
    assert PackedPairs.from_dict(batch).reference.log_ppl.tolist() == [0.25, 0.25]
    for name, value in reference.items():
        assert batch[name].dtype == torch.float32
        assert batch[name].tolist() == [value, value]
    without = PackedCollator()([one | reference, one])
    assert not any(name in without for name in reference)
    assert PackedPairs.from_dict(without).reference is None
