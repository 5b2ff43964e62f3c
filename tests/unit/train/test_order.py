import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betahead.train.order import GroupedSampler, grouped_order

_RNG = random.Random(5)
LENGTHS = [_RNG.randint(5, 500) for _ in range(1003)]


@given(
    lengths=st.lists(st.integers(1, 50), max_size=80),
    step=st.integers(1, 12),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_every_epoch_is_a_permutation(lengths: list[int], step: int, seed: int, epoch: int) -> None:
    order = grouped_order(lengths, step, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert order == grouped_order(lengths, step, seed=seed, epoch=epoch)


def test_the_order_is_a_function_of_seed_and_epoch_and_of_nothing_else() -> None:
    first = grouped_order(LENGTHS, 8, seed=0, epoch=1)
    random.seed(99)
    assert grouped_order(LENGTHS, 8, seed=0, epoch=1) == first
    others = [grouped_order(LENGTHS, 8, seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 2), (1, 1), (1, 0))]
    assert all(other != first for other in others)
    assert len({tuple(other) for other in others}) == len(others)


def test_the_order_is_the_same_in_every_process_and_version() -> None:
    assert grouped_order([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], 2, seed=0, epoch=1) == [5, 3, 2, 6, 7, 9, 4, 1, 8, 0]


def spread(order: list[int], step: int) -> float:
    """Longest minus shortest within a whole step, on average."""
    steps = [order[i : i + step] for i in range(0, len(order) // step * step, step)]
    return sum(max(LENGTHS[i] for i in one) - min(LENGTHS[i] for i in one) for one in steps) / len(steps)


def test_the_pairs_of_a_step_have_like_lengths() -> None:
    shuffled = list(range(len(LENGTHS)))
    random.Random(0).shuffle(shuffled)
    assert spread(grouped_order(LENGTHS, 8, seed=0, epoch=1), 8) < 0.15 * spread(shuffled, 8)


def test_lengths_say_nothing_about_when_a_pair_comes() -> None:
    # The mean place of the longest tenth, over many epochs, is the middle of the epoch.
    longest = set(sorted(range(1000), key=LENGTHS.__getitem__)[-100:])
    places = [
        place
        for epoch in range(1, 61)
        for place, row in enumerate(grouped_order(LENGTHS[:1000], 8, seed=0, epoch=epoch))
        if row in longest
    ]
    # Steps of eight move together, so about 60 × 100 / 8 independent places: a standard error of 0.0105 epochs.
    assert sum(places) / len(places) / 1000 == pytest.approx(0.5, abs=0.035)


def test_who_meets_whom_differs_between_epochs() -> None:
    def meetings(epoch: int) -> set[frozenset[int]]:
        order = grouped_order(LENGTHS, 8, seed=0, epoch=epoch)
        return {frozenset(order[i : i + 8]) for i in range(0, 1000, 8)}

    assert not meetings(1) & meetings(2)


def test_the_short_last_step_is_a_random_draw() -> None:
    left = [LENGTHS[row] for epoch in range(1, 101) for row in grouped_order(LENGTHS, 8, seed=0, epoch=epoch)[-3:]]
    mean = sum(LENGTHS) / len(LENGTHS)
    # Uniform over 5 … 500 has standard deviation 143; 300 draws have a standard error of 8.
    assert sum(left) / len(left) == pytest.approx(mean, abs=30)


def test_the_longest_pair_of_the_whole_steps_comes_first_in_the_first_epoch() -> None:
    order = grouped_order(LENGTHS, 8, seed=0, epoch=0)
    assert LENGTHS[order[0]] == max(LENGTHS[row] for row in order[:1000])
    later = [grouped_order(LENGTHS, 8, seed=0, epoch=epoch)[0] for epoch in range(1, 9)]
    assert len({LENGTHS[row] for row in later}) > 1


def test_a_sampler_asks_which_epoch_begins() -> None:
    epoch = 0
    sampler = GroupedSampler(LENGTHS, 8, seed=3, epoch=lambda: epoch)
    assert len(sampler) == len(LENGTHS)
    first = list(sampler)
    assert first == list(sampler) == grouped_order(LENGTHS, 8, seed=3, epoch=0)
    epoch = 1
    assert list(sampler) == grouped_order(LENGTHS, 8, seed=3, epoch=1)
