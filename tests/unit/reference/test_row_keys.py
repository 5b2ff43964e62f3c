"""Keys of rows: equal exactly when the same tokens are scored by the same reference."""

import time
from typing import Any

import tiny
from datasets import Dataset, concatenate_datasets
from hypothesis import given
from hypothesis import strategies as st

from betahead.reference.row_keys import RowKeyMaker

PLAIN = RowKeyMaker(fingerprint="ab" * 16)
MAKER = RowKeyMaker(fingerprint="ab" * 16, columns=(*PLAIN.columns, "ref_log_ppl"))
IDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4)


def row(prompt: list[int], chosen: list[int], rejected: list[int], mask: list[bool] | None = None) -> dict[str, Any]:
    counted = [False] + [True] * (len(prompt) - 1) if mask is None else mask
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected, "ppl_mask": counted}


ROWS = st.builds(row, IDS, IDS, IDS)


@given(one=ROWS, other=ROWS)
def test_keys_are_equal_exactly_when_the_tokens_are(one: dict[str, Any], other: dict[str, Any]) -> None:
    mine, theirs = MAKER.of_records([one, other])
    for number, name in enumerate(("chosen_ids", "rejected_ids")):
        same = (one["prompt_ids"], one[name]) == (other["prompt_ids"], other[name])
        assert (mine[number] == theirs[number]) == same
    same = (one["prompt_ids"], one["ppl_mask"]) == (other["prompt_ids"], other["ppl_mask"])
    assert (mine[2] == theirs[2]) == same


def test_tokens_that_move_over_the_boundary_are_another_key() -> None:
    a, b = MAKER.of_records([row([1, 2], [3], [4]), row([1], [2, 3], [2, 4])])
    assert not set(a) & set(b)


def test_counted_tokens_are_in_the_key_of_the_log_ppl_alone() -> None:
    a, b = MAKER.of_records([row([1, 2, 3], [4], [5]), row([1, 2, 3], [4], [5], [False, False, True])])
    assert a[:2] == b[:2]
    assert a[2] != b[2]
    assert PLAIN.of_records([row([1, 2, 3], [4], [5])])[0] == a[:2]


def test_swapped_labels_have_the_same_keys_swapped() -> None:
    a, b = PLAIN.of_records([row([1, 2], [3], [4]), row([1, 2], [4], [3])])
    assert a == b[::-1]


def test_the_first_tokens_of_an_answer_have_the_key_of_an_answer_that_ends_there() -> None:
    columns = (*PLAIN.columns, "ref_chosen_common_logps", "ref_rejected_common_logps")
    common = RowKeyMaker(fingerprint=PLAIN.fingerprint, columns=columns)
    (found,) = common.of_records([row([1, 2], [3, 4, 5], [6])])
    whole, ended = PLAIN.of_records([row([1, 2], [3, 4, 5], [6]), row([1, 2], [3], [6])])
    assert found == (*whole, *ended)


def test_another_reference_has_other_keys() -> None:
    rows = [row([1, 2], [3], [4])]
    other = RowKeyMaker(fingerprint="cd" * 16, columns=(*PLAIN.columns, "ref_log_ppl"))
    assert not set(MAKER.of_records(rows)[0]) & set(other.of_records(rows)[0])


@given(rows=st.lists(ROWS, min_size=1, max_size=6), seed=st.integers(0, 5))
def test_a_data_set_has_the_keys_of_its_records_whatever_its_form(rows: list[dict[str, Any]], seed: int) -> None:
    whole = Dataset.from_list(rows)
    wanted = MAKER.of_records(rows)
    assert MAKER.of_dataset(whole) == wanted
    assert MAKER.of_dataset(concatenate_datasets([whole, whole])) == wanted * 2
    mixed = whole.shuffle(seed=seed)
    assert MAKER.of_dataset(mixed) == MAKER.of_records(list(mixed))
    assert MAKER.of_dataset(whole.select(range(len(rows) // 2, len(rows)))) == wanted[len(rows) // 2 :]


def test_eight_thousand_rows_have_their_keys_in_well_below_two_seconds() -> None:
    records = [record | {"ppl_mask": [False] + [True] * 199} for record in tiny.records(40)]
    for number, record in enumerate(records):
        record["prompt_ids"] = list(range(number, number + 200))
        record["chosen_ids"] = record["rejected_ids"] = list(range(number, number + 150))
    data = Dataset.from_list(records * 200)
    began = time.process_time()
    assert len(MAKER.of_dataset(data)) == 8000
    assert time.process_time() - began < 2
