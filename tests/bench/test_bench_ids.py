"""The same pairs for every arm: words that carry ids, and the batches that stand for an epoch."""

import random

import pytest

from bench.batches import Row, chosen_batches, epoch_of_batches, longer_row
from bench.carrier import EOS_ID, PAD_ID, carrier_tokenizer, text_of
from bench.geometries import MadePairs
from bench.prepare import made_rows

LENGTHS = MadePairs(prompt=(3, 40), chosen=(2, 20), rejected=(2, 20), pairs=90)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return made_rows(LENGTHS, 1200)


def test_words_carry_every_id_also_special_ones_and_those_that_begin_alike() -> None:
    tokenizer = carrier_tokenizer(1200)
    ids = [*range(1200), EOS_ID, 31, 310, 3, PAD_ID]
    random.Random(0).shuffle(ids)
    assert tokenizer(text_of(ids))["input_ids"] == ids
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD_ID, EOS_ID)
    assert len(tokenizer) == 1200


def test_a_prompt_and_its_answer_as_one_text_are_their_ids_one_after_the_other(rows: list[Row]) -> None:
    tokenizer = carrier_tokenizer(1200)
    for row in rows[:10]:
        whole = text_of(row["prompt_ids"]) + " " + text_of(row["chosen_ids"])
        assert tokenizer(whole)["input_ids"] == row["prompt_ids"] + row["chosen_ids"]


def test_made_pairs_have_their_lengths_and_end_once(rows: list[Row]) -> None:
    assert len(rows) == LENGTHS.pairs
    assert {len(row["prompt_ids"]) for row in rows} <= set(range(3, 41))
    for row in rows:
        for name in ("chosen_ids", "rejected_ids"):
            assert 2 <= len(row[name]) <= 20 and row[name].index(EOS_ID) == len(row[name]) - 1
    assert made_rows(LENGTHS, 1200) == rows


@pytest.mark.parametrize("order", ["random", "grouped"])
def test_an_epoch_has_every_pair_once_in_full_batches(rows: list[Row], order: str) -> None:
    batches = epoch_of_batches(rows, 4, order, seed=1)
    seen = [i for batch in batches for i in batch]
    assert len(batches) == len(rows) // 4 and {len(batch) for batch in batches} == {4}
    assert len(set(seen)) == len(seen)


def test_grouped_batches_hold_rows_of_like_length(rows: list[Row]) -> None:
    def padding(order: str) -> int:
        batches = epoch_of_batches(rows, 4, order, seed=1)
        lengths = [[longer_row(rows[i]) for i in batch] for batch in batches]
        return sum(4 * max(batch) - sum(batch) for batch in lengths)

    assert padding("grouped") < 0.5 * padding("random")


@pytest.mark.parametrize("order", ["random", "grouped"])
def test_the_batches_are_a_short_one_and_then_quantiles_of_the_epoch(rows: list[Row], order: str) -> None:
    warm, *counted = chosen_batches(rows, 4, 3, order)
    lengths = [max(map(longer_row, batch)) for batch in counted]
    of_epoch = sorted(max(longer_row(rows[i]) for i in batch) for batch in epoch_of_batches(rows, 4, order, seed=0))
    assert max(map(longer_row, warm)) == of_epoch[0]
    assert lengths == sorted(lengths)
    assert abs(lengths[1] - of_epoch[len(of_epoch) // 2]) <= 3
    assert chosen_batches(rows, 4, 3, order) == [warm, *counted]


def test_too_few_pairs_are_refused(rows: list[Row]) -> None:
    with pytest.raises(AssertionError, match="8 pairs make 2 batches, but 2 and one more are needed"):
        chosen_batches(rows[:8], 4, 2, "random")
