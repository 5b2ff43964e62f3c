import pytest
import tiny
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from betahead.data.collate import PairCollator
from betahead.data.lengths import tokens_of_rows
from betahead.data.passes import PairTokens, PassCollator, oversized, packed_tokens, padded_tokens, passes_of, tokens_of

ROADS = {
    "padded": padded_tokens,
    "packed": packed_tokens,
    "rounded": PairCollator(pad_token_id=0, pad_to_multiple_of=8).pass_tokens,
}
LENGTHS = st.builds(PairTokens, prompt=st.integers(1, 40), chosen=st.integers(1, 30), rejected=st.integers(1, 30))


def pair(prompt: int, chosen: int, rejected: int) -> PairTokens:
    return PairTokens(prompt=prompt, chosen=chosen, rejected=rejected)


def test_the_tokens_of_a_pass_are_those_that_the_road_makes() -> None:
    pairs = [pair(3, 2, 5), pair(10, 1, 1)]
    assert packed_tokens(pairs) == 3 + 2 + 5 + 10 + 1 + 1
    assert padded_tokens(pairs) == 4 * 11
    assert PairCollator(pad_token_id=0, pad_to_multiple_of=8).pass_tokens(pairs) == 4 * 16


@pytest.mark.parametrize("multiple", [1, 4, 7])
def test_the_collator_says_how_many_tokens_its_batch_will_hold(multiple: int) -> None:
    collate = PairCollator(pad_token_id=0, pad_to_multiple_of=multiple)
    records = tiny.records(5)
    assert collate.pass_tokens([tokens_of(r) for r in records]) == collate(records)["input_ids"].numel()


@pytest.mark.parametrize("road", ROADS)
@given(pairs=st.lists(LENGTHS, max_size=60), budget=st.one_of(st.none(), st.integers(1, 600)))
def test_every_pair_is_in_one_pass_and_no_pass_of_several_is_above_the_budget(
    road: str, pairs: list[PairTokens], budget: int | None
) -> None:
    groups = passes_of(pairs, budget, ROADS[road])
    assert sorted(i for group in groups for i in group) == list(range(len(pairs)))
    assert all(group == sorted(group) for group in groups)
    for group in groups:
        assert budget is None or len(group) == 1 or ROADS[road]([pairs[i] for i in group]) <= budget
    if budget is None:
        assert len(groups) <= 1


@given(pairs=st.lists(LENGTHS, min_size=2, max_size=16), budget=st.integers(1, 400))
def test_no_two_passes_without_padding_would_fit_into_one(pairs: list[PairTokens], budget: int) -> None:
    groups = passes_of(pairs, budget, packed_tokens)
    for number, one in enumerate(groups):
        for other in groups[number + 1 :]:
            assert packed_tokens([pairs[i] for i in one + other]) > budget


def test_first_fit_fills_a_pass_of_one_long_pair_with_short_ones() -> None:
    pairs = [pair(1, 1, 1), pair(50, 20, 20), pair(2, 2, 2), pair(40, 20, 20)]
    assert passes_of(pairs, 99, packed_tokens) == [[0, 1, 2], [3]]


def test_a_pair_above_the_budget_goes_alone_and_is_counted() -> None:
    pairs = [pair(1, 1, 1), pair(50, 20, 20), pair(2, 2, 2), pair(40, 20, 20)]
    assert passes_of(pairs, 85, packed_tokens) == [[1], [0, 3], [2]]
    found = oversized(pairs, 79, packed_tokens)
    assert found is not None
    assert (found.pairs, found.largest, found.budget) == (2, 90, 79)
    assert found.line() == (
        "pairs with more tokens than `max_batch_tokens` (79): 2, the largest 90; each goes through the model alone"
    )
    assert oversized(pairs, 90, packed_tokens) is None


def test_a_whole_data_set_is_cut_in_linear_time() -> None:
    pairs = [pair(1 + i % 97, 1 + i % 13, 1 + i % 7) for i in range(20_000)]
    counted = 0

    def counting(group: object) -> int:
        nonlocal counted
        counted += 1
        return packed_tokens(group)

    groups = passes_of(pairs, 120, counting)
    assert sum(map(len, groups)) == 20_000
    assert counted <= 20_000 * 17


def test_the_lengths_of_a_data_set_follow_its_order_after_a_shuffle() -> None:
    records = tiny.records(30)
    data = Dataset.from_list(records).shuffle(seed=3).select(range(5, 25))
    assert tokens_of_rows(data) == [tokens_of(record) for record in data]
    assert tokens_of_rows(data.select([])) == []


def test_the_passes_of_a_micro_batch_are_collated_each_by_itself() -> None:
    records = tiny.records(6)
    collate = PairCollator(pad_token_id=0)
    whole = PassCollator(collate=collate, budget=None, pass_tokens=collate.pass_tokens)(records)
    assert whole["pairs"] == [6]
    assert whole["passes"][0]["input_ids"].equal(collate(records)["input_ids"])
    alone = PassCollator(collate=collate, budget=1, pass_tokens=collate.pass_tokens)(records)
    assert alone["pairs"] == [1] * 6
    rows = {tuple(batch["input_ids"][0].tolist()) + tuple(batch["input_ids"][1].tolist()) for batch in alone["passes"]}
    wanted = (collate([record])["input_ids"].tolist() for record in records)
    assert rows == {tuple(chosen + rejected) for chosen, rejected in wanted}
