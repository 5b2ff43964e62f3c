"""Numbers as a function of seed, counter and place."""

import math

import pytest
import torch

from betahead.beta.draws import gumbel, uniform


def counter(value: int) -> torch.Tensor:
    return torch.tensor(value)


def by_hand(seed: int, at: int, place: int) -> float:
    """The same with Python's integers."""

    def mixed(bits: int) -> int:
        bits = (bits ^ (bits >> 15)) * 0x2C1B3C6D % 2**32
        bits = (bits ^ (bits >> 12)) * 0x297A2D39 % 2**32
        return bits ^ (bits >> 15)

    stream = mixed(mixed(seed) ^ (at % 2**32))
    return ((mixed(mixed((stream + place) % 2**32) ^ stream) >> 9) + 0.5) / 2**23


@pytest.mark.parametrize(("seed", "at"), [(0, 0), (7, 3), (2**32 - 1, 2**31 + 5), (1, 2**40 + 1)])
def test_they_are_those_of_exact_integers(seed: int, at: int) -> None:
    found = uniform(300, seed=seed, counter=counter(at))
    assert found.tolist() == [by_hand(seed, at, place) for place in range(300)]


def test_they_are_spread_evenly_and_hang_on_neither_place_nor_counter() -> None:
    rows = torch.stack([uniform(2000, seed=1, counter=counter(step)) for step in range(50)]).double()
    assert rows.min() > 0 and rows.max() < 1
    counts = torch.histc(rows, bins=100, min=0, max=1)
    expected = rows.numel() / 100
    chi = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi - 99) < 4 * math.sqrt(2 * 99)
    for one, other in ((rows[:, 1:], rows[:, :-1]), (rows[1:], rows[:-1]), (rows[1:, :-1], rows[:-1, 1:])):
        both = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))
        assert abs(float(both[0, 1])) < 4 / math.sqrt(one.numel())


def test_another_seed_or_counter_gives_other_numbers_and_the_same_gives_the_same() -> None:
    first = uniform(64, seed=3, counter=counter(9))
    assert torch.equal(first, uniform(64, seed=3, counter=counter(9)))
    assert torch.equal(first[:10], uniform(10, seed=3, counter=counter(9)))
    for seed, at in ((4, 9), (3, 10)):
        assert int((first == uniform(64, seed=seed, counter=counter(at))).sum()) == 0


def test_gumbel_noise_has_the_mean_and_variance_of_its_name() -> None:
    noise = gumbel(100_000, seed=0, counter=counter(0)).double()
    assert noise.isfinite().all()
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.03)
