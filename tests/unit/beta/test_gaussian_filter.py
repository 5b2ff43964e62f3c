"""Which pairs a Gaussian filter keeps."""

import math

import numpy as np
import pytest
import torch

from betahead.beta.gaussian_filter import GaussianFilter


@pytest.mark.parametrize(
    ("pairs", "drop", "kept"), [(10, 0.2, 8), (64, 0.3, 44), (20, 0.9, 2), (3, 0.9, 1), (1, 0.5, 1), (5, 0.0, 5)]
)
def test_the_share_is_rounded_down_and_one_pair_is_always_left(pairs: int, drop: float, kept: int) -> None:
    mask = GaussianFilter(drop, 0)(torch.linspace(-2, 2, pairs))
    assert sorted(mask.tolist()) == [0.0] * (pairs - kept) + [1.0] * kept


def test_pairs_are_kept_as_often_as_drawing_without_replacement_keeps_them() -> None:
    distance = torch.tensor([-2.0, -0.5, 0.0, 0.4, 1.0, 2.5])
    times = 4000
    made = GaussianFilter(0.5, 0)
    kept = torch.stack([made(distance) for _ in range(times)]).mean(0)
    chances = np.exp(-0.5 * distance.double().numpy() ** 2)
    rng = np.random.default_rng(0)
    counts = np.zeros(6)
    for _ in range(times):
        counts[rng.choice(6, size=3, replace=False, p=chances / chances.sum())] += 1
    np.testing.assert_allclose(kept.numpy(), counts / times, atol=4 * math.sqrt(0.5 / times))


def test_every_draw_is_another_one_and_the_seed_decides_which() -> None:
    def draws(seed: int) -> torch.Tensor:
        made = GaussianFilter(0.5, seed)
        return torch.stack([made(torch.zeros(64)) for _ in range(3)])

    first = draws(0)
    assert torch.equal(first, draws(0))
    assert not torch.equal(first, draws(1))
    assert not torch.equal(first[0], first[1])


def test_evaluation_keeps_all_and_leaves_the_draws_of_training_as_they_were() -> None:
    made, other = GaussianFilter(0.5, 0), GaussianFilter(0.5, 0)
    distance = torch.zeros(16)
    made(distance), other(distance)
    made.eval()
    assert torch.equal(made(distance), torch.ones(16))
    made.train()
    assert torch.equal(made(distance), other(distance))


def test_margins_far_from_the_mean_of_nothing_still_make_a_draw() -> None:
    # The first step of a policy that is its reference: all distances are 0; of one that is not: they are enormous.
    for distance in (torch.zeros(8), torch.full((8,), 1e6), torch.linspace(-1e6, 1e6, 8)):
        assert int(GaussianFilter(0.25, 0)(distance).sum()) == 6
