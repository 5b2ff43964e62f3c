"""Batches are told apart into pairs again, of every layout, and pairs are found among their rows."""

from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset

from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.train.guard_batch import SeenPass, described, ids_of, plain_numbers, row_of

COLLATORS = {
    "padded": PairCollator(pad_token_id=0),
    "multiples": PairCollator(pad_token_id=0, pad_to_multiple_of=8),
    "packed": PackedCollator(),
}


def parts(record: dict[str, Any]) -> tuple[list[int], ...]:
    return tuple(list(record[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected"))


@pytest.mark.parametrize("name", COLLATORS)
def test_a_batch_gives_back_the_tokens_that_it_was_made_of(name: str) -> None:
    records = tiny.records(5)
    assert ids_of(COLLATORS[name](records)) == [parts(record) for record in records]


def test_a_row_is_found_by_its_tokens() -> None:
    records = tiny.records(6)
    data = Dataset.from_list([*records[:3], records[1] | {"prompt_id": "again"}, *records[3:]])
    assert row_of(data, parts(records[1])) == {"row": 1, "prompt_id": "1"}
    assert row_of(data, parts(records[4])) == {"row": 5, "prompt_id": "4"}
    prompt, chosen, rejected = parts(records[4])
    assert row_of(data, (prompt, rejected, chosen)) is None
    assert row_of(data.select([2, 0]), parts(records[0])) == {"row": 1, "prompt_id": "0"}
    assert row_of(Dataset.from_dict({"text": ["a"]}), parts(records[0])) is None


def test_numbers_that_are_not_finite_are_texts() -> None:
    assert plain_numbers(torch.tensor([1.5, float("nan"), float("-inf")])) == [1.5, "nan", "-inf"]


def test_pairs_come_in_the_order_of_their_passes_with_numbers_and_texts() -> None:
    records, tokenizer = tiny.records(3), tiny.tokenizer()
    passes = [
        SeenPass(
            batch=PackedCollator()(group),
            losses=torch.tensor([float("inf")] * len(group)) if number else torch.zeros(len(group)),
            shown={"beta": torch.full((len(group),), 0.25)},
        )
        for number, group in enumerate((records[1:], records[:1]))
    ]
    found = described(passes, tokenizer, Dataset.from_list(records))
    assert [(one["row"], one["offends"], one["loss"], one["beta"]) for one in found] == [
        (1, False, 0.0, 0.25),
        (2, False, 0.0, 0.25),
        (0, True, "inf", 0.25),
    ]
    assert found[2]["prompt"] == tokenizer.decode(records[0]["prompt_ids"])
    assert "row" not in described(passes, tokenizer, None)[0]
