import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, bootstrap

from betahead.stats.bootstrap import Interval, mean_interval, statistic_interval, statistics_intervals


def clustered(rng: np.random.Generator, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of clusters of unequal size whose members are alike; the mean of everything is 0."""
    sizes = rng.integers(1, 11, size=clusters)
    members = np.repeat(np.arange(clusters), sizes)
    return rng.normal(size=clusters)[members] + 0.5 * rng.normal(size=len(members)), members


def covers(interval: Interval, truth: float) -> bool:
    assert interval.low is not None and interval.high is not None
    return interval.low <= truth <= interval.high


def test_a_nominal_95_percent_interval_covers_the_truth_in_about_95_percent_of_simulations() -> None:
    simulations, rng = 400, np.random.default_rng(1)
    covered = 0
    for seed in range(simulations):
        values, members = clustered(rng, 60)
        covered += covers(mean_interval(values, members, seed=seed, replicates=600), 0.0)
    low, high = binom.interval(0.999, simulations, 0.95)
    assert low <= covered <= high


def test_rows_resampled_as_if_they_were_independent_would_cover_far_less() -> None:
    simulations, rng = 100, np.random.default_rng(2)
    covered = 0
    for seed in range(simulations):
        values, _ = clustered(rng, 60)
        covered += covers(mean_interval(values, seed=seed, replicates=400), 0.0)
    assert covered < 80


def test_without_clusters_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=150)
    ours = mean_interval(values, seed=0, replicates=40_000)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=40_000, method="percentile", vectorized=True, rng=np.random.default_rng(4)
    ).confidence_interval
    # Both are Monte Carlo estimates of the same two quantiles; this is a few of their standard errors.
    error = 6 * float(np.std(values)) / np.sqrt(len(values)) * np.sqrt(0.025 * 0.975 / 40_000) / 0.0584
    assert ours.estimate == pytest.approx(float(values.mean()), abs=1e-12)
    assert ours.low == pytest.approx(theirs.low, abs=error)
    assert ours.high == pytest.approx(theirs.high, abs=error)


@given(arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e3, 1e3)), st.integers(0, 2**32 - 1))
def test_clusters_of_one_row_are_no_clusters(values: np.ndarray, seed: int) -> None:
    names = [f"{number:03}" for number in range(len(values))]
    assert mean_interval(values, names, seed=seed, replicates=50) == mean_interval(values, seed=seed, replicates=50)


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-1e3, 1e3)), min_size=1, max_size=30),
    st.integers(0, 2**32 - 1),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_rows_does_not_matter(
    rows: list[tuple[str, float]], seed: int, shuffler: random.Random
) -> None:
    def found(given_rows: list[tuple[str, float]]) -> list[float | None]:
        values = np.array([value for _, value in given_rows])
        interval = mean_interval(values, [name for name, _ in given_rows], seed=seed, replicates=50)
        return [interval.estimate, interval.low, interval.high]

    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    for one, other in zip(found(rows), found(shuffled), strict=True):
        assert other == (None if one is None else pytest.approx(one, abs=1e-9))


@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.floats(-10, 10)), min_size=1, max_size=30),
    st.floats(0.01, 10),
    st.floats(-10, 10),
)
def test_scaling_and_shifting_the_rows_scales_and_shifts_the_interval(
    rows: list[tuple[str, float]], scale: float, shift: float
) -> None:
    values, names = np.array([value for _, value in rows]), [name for name, _ in rows]
    plain = mean_interval(values, names, seed=5, replicates=50)
    moved = mean_interval(scale * values + shift, names, seed=5, replicates=50)
    for one, other in zip(
        (plain.estimate, plain.low, plain.high), (moved.estimate, moved.low, moved.high), strict=True
    ):
        assert other == (None if one is None else pytest.approx(scale * one + shift, abs=1e-6))


def test_a_statistic_of_weights_agrees_with_the_mean() -> None:
    values, members = clustered(np.random.default_rng(6), 30)
    mean = mean_interval(values, members, seed=7)
    general = statistic_interval(lambda w: (w @ values) / w.sum(axis=1), members, seed=7)
    assert general.estimate == pytest.approx(mean.estimate, abs=1e-12)
    assert general.low == pytest.approx(mean.low, abs=1e-12)
    assert general.high == pytest.approx(mean.high, abs=1e-12)


def test_the_interval_of_a_ratio_covers_the_ratio_of_the_means() -> None:
    rng = np.random.default_rng(8)
    top, bottom = rng.exponential(2.0, size=500), rng.exponential(1.0, size=500)
    found = statistic_interval(lambda w: (w @ top) / (w @ bottom), np.arange(500), seed=9)
    assert found.estimate == pytest.approx(top.mean() / bottom.mean())
    assert covers(found, 2.0)


def test_a_single_cluster_has_no_interval() -> None:
    assert mean_interval(np.array([1.0, 3.0]), ["a", "a"], seed=0) == Interval(estimate=2.0, low=None, high=None)


def test_a_constant_has_an_interval_of_no_width() -> None:
    found = mean_interval(np.full(20, 0.25), seed=0)
    assert (found.estimate, found.low, found.high) == (0.25, 0.25, 0.25)


def test_the_global_random_state_is_not_touched() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    mean_interval(np.arange(10.0), seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_two_thousand_replicates_of_eight_thousand_rows_take_less_than_a_second() -> None:
    rng = np.random.default_rng(10)
    values, members = rng.normal(size=8000), rng.integers(0, 805, size=8000)
    began = time.process_time()
    mean_interval(values, members, seed=0)
    assert time.process_time() - began < 1.0


def test_several_statistics_share_their_resamples_and_are_what_each_is_alone():
    values = np.random.default_rng(3).normal(size=(2, 30))
    prompts = [str(row // 3) for row in range(30)]

    def share(weights, row):
        return (weights @ values[row]) / weights.sum(axis=1)

    both = statistics_intervals(
        lambda w: np.stack([share(w, 0), share(w, 1)], axis=1), prompts, seed=2, replicates=80, level=0.8
    )
    alone = [
        statistic_interval(lambda w, row=row: share(w, row), prompts, seed=2, replicates=80, level=0.8)
        for row in range(2)
    ]
    assert both == alone
    single = statistics_intervals(lambda w: np.stack([share(w, 0)], axis=1), ["a"] * 30, seed=0)
    assert [(one.low, one.high) for one in single] == [(None, None)]
