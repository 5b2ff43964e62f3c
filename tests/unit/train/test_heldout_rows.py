"""Which pairs are held out for β, and which an estimate reads."""

from collections import Counter

import pytest
from datasets import Dataset

from betahead.beta.heldout import HeldOut
from betahead.errors import DataError
from betahead.train.heldout_rows import held_apart, rows_of_estimate


def pairs_of(prompts: int, each: int) -> Dataset:
    return Dataset.from_dict({"prompt_id": [f"p{i % prompts}" for i in range(prompts * each)]})


def test_no_prompt_is_on_both_sides_and_no_pair_is_lost() -> None:
    data = pairs_of(20, 3)
    train, followed = held_apart(data, HeldOut(share=0.2), 0)
    assert followed is not None
    assert len(set(followed["prompt_id"])) == 4
    assert set(train["prompt_id"]).isdisjoint(followed["prompt_id"])
    assert Counter([*train["prompt_id"], *followed["prompt_id"]]) == Counter(data["prompt_id"])


def test_another_seed_holds_out_other_prompts() -> None:
    sides = [set(held_apart(pairs_of(20, 1), HeldOut(share=0.2), seed)[1]["prompt_id"]) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


def test_a_rule_that_needs_none_keeps_everything() -> None:
    data = pairs_of(3, 1)
    assert held_apart(data, None, 0) == (data, None)


@pytest.mark.parametrize("share", [0.01, 0.49])
def test_two_prompts_are_enough(share: float) -> None:
    train, followed = held_apart(pairs_of(2, 2), HeldOut(share=share), 0)
    assert (len(train), len(followed)) == (2, 2)


def test_a_single_prompt_is_refused() -> None:
    with pytest.raises(DataError) as refused:
        held_apart(pairs_of(1, 4), HeldOut(), 0)
    assert str(refused.value) == (
        "`train_dataset` must hold pairs of at least two prompts with learning.kind: heldout, one of them to be held "
        "out, but holds pairs of 1 instead; give more data."
    )


@pytest.mark.parametrize(("rows", "wanted"), [(10, 4), (10, 10), (7, 3), (1, 8), (5, 8)])
def test_every_row_comes_once_before_any_comes_twice(rows: int, wanted: int) -> None:
    count = min(rows, wanted)
    read = [row for estimate in range(3 * rows) for row in rows_of_estimate(rows, wanted, estimate, seed=3)]
    assert len(read) == 3 * rows * count
    for turn in range(len(read) // rows):
        assert sorted(read[turn * rows : (turn + 1) * rows]) == list(range(rows))


def test_an_estimate_reads_the_same_rows_whatever_was_read_before_it() -> None:
    later = rows_of_estimate(50, 8, 17, seed=1)
    for estimate in range(17):
        rows_of_estimate(50, 8, estimate, seed=1)
    assert rows_of_estimate(50, 8, 17, seed=1) == later
    assert rows_of_estimate(50, 8, 17, seed=2) != later
    assert rows_of_estimate(50, 8, 18, seed=1) != later
