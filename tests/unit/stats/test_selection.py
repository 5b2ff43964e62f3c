import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from betahead.stats.bootstrap import Interval
from betahead.stats.selection import (
    Pool,
    best_of_n,
    best_of_n_each,
    best_of_n_gap,
    best_of_n_interval,
    mean_best_of_n_interval,
)

# Few distinct values of dev, so that ties are common.
POOLS = st.lists(st.tuples(st.integers(0, 3), st.floats(-10, 10)), min_size=1, max_size=6).map(
    lambda rows: Pool(dev=np.array([float(dev) for dev, _ in rows]), test=np.array([test for _, test in rows]))
)


def searched(pool: Pool, picked: tuple[int, ...]) -> float:
    """What one search is worth: the mean of test over the trials that share its best dev."""
    best = max(pool.dev[list(picked)])
    return float(np.mean([pool.test[trial] for trial in picked if pool.dev[trial] == best]))


def width(interval: Interval) -> float:
    assert interval.low is not None and interval.high is not None
    return interval.high - interval.low


@given(POOLS, st.data())
def test_without_replacement_it_is_the_mean_over_all_subsets(pool: Pool, data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(pool.dev)))
    expected = np.mean([searched(pool, picked) for picked in itertools.combinations(range(len(pool.dev)), n)])
    assert best_of_n(pool, n) == pytest.approx(expected, abs=1e-9)


@given(POOLS, st.integers(1, 4))
def test_with_replacement_it_is_the_mean_over_all_sequences(pool: Pool, n: int) -> None:
    expected = np.mean([searched(pool, picked) for picked in itertools.product(range(len(pool.dev)), repeat=n)])
    assert best_of_n(pool, n, replacement=True) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("replacement", [False, True])
def test_a_loop_of_random_searches_finds_the_same(replacement: bool) -> None:
    rng = np.random.default_rng(0)
    pool = Pool(dev=rng.normal(size=32), test=rng.normal(size=32))
    found = [searched(pool, tuple(rng.choice(32, size=12, replace=replacement))) for _ in range(10_000)]
    error = 5 * np.std(found) / np.sqrt(len(found))
    assert best_of_n(pool, 12, replacement=replacement) == pytest.approx(np.mean(found), abs=error)


def test_with_replacement_it_is_the_formula_of_dodge() -> None:
    scores = np.random.default_rng(1).normal(size=20)
    for n in (1, 5, 20, 50):
        expected = sum(value * ((i / 20) ** n - ((i - 1) / 20) ** n) for i, value in enumerate(sorted(scores), start=1))
        assert best_of_n(Pool(dev=scores, test=scores), n, replacement=True) == pytest.approx(expected, abs=1e-12)


def test_the_values_of_the_docstring() -> None:
    pool = Pool(dev=np.array([1.0, 2.0, 4.0]), test=np.array([1.0, 2.0, 4.0]))
    assert best_of_n(pool, 2) == pytest.approx(10 / 3)
    assert best_of_n(pool, 2, replacement=True) == pytest.approx(3.0)


def test_many_searches_at_once_are_worth_what_each_is_alone() -> None:
    values = np.random.default_rng(1).standard_normal((5, 12))
    values[2, :4] = values[2, 5]
    for n in (1, 4, 12):
        alone = [best_of_n(Pool(dev=one, test=one), n) for one in values]
        np.testing.assert_allclose(best_of_n_each(values, n), alone, atol=1e-12)


@given(POOLS)
def test_one_trial_is_worth_the_mean_and_all_of_them_the_best(pool: Pool) -> None:
    everything = tuple(range(len(pool.dev)))
    assert best_of_n(pool, 1) == pytest.approx(float(pool.test.mean()), abs=1e-9)
    assert best_of_n(pool, 1, replacement=True) == pytest.approx(float(pool.test.mean()), abs=1e-9)
    assert best_of_n(pool, len(everything)) == pytest.approx(searched(pool, everything), abs=1e-9)


@given(POOLS, st.permutations(range(6)), st.floats(0.1, 10), st.floats(-5, 5))
def test_order_does_not_matter_and_test_scales_and_shifts(
    pool: Pool, order: list[int], scale: float, shift: float
) -> None:
    kept = [trial for trial in order if trial < len(pool.dev)]
    moved = Pool(dev=pool.dev[kept], test=scale * pool.test[kept] + shift)
    n = (len(kept) + 1) // 2
    assert best_of_n(moved, n) == pytest.approx(scale * best_of_n(pool, n) + shift, abs=1e-8)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12))
def test_a_longer_search_is_never_worse_where_dev_is_test(scores: list[float]) -> None:
    pool = Pool(dev=np.array(scores), test=np.array(scores))
    for replacement in (False, True):
        curve = [best_of_n(pool, n, replacement=replacement) for n in range(1, len(scores) + 1)]
        assert (np.diff(curve) >= -1e-9).all()


def test_selecting_on_the_test_prompts_wins_points_that_selecting_on_dev_does_not() -> None:
    rng, gain, honest = np.random.default_rng(2), 0.0, 0.0
    for _ in range(200):
        dev, test = rng.normal(size=96), rng.normal(size=96)
        gain += best_of_n(Pool(dev=test, test=test), 96) / 200
        honest += best_of_n(Pool(dev=dev, test=test), 96) / 200
    # The mean maximum of 96 normal numbers is 2.49; without it nothing is won.
    assert gain == pytest.approx(2.49, abs=0.15)
    assert honest == pytest.approx(0.0, abs=0.25)


def test_without_replacement_it_is_unbiased_and_with_replacement_too_low() -> None:
    # The mean of the largest of n uniform numbers is n/(n + 1).
    rng, without, with_ = np.random.default_rng(3), [], []
    for _ in range(4000):
        scores = rng.uniform(size=16)
        pool = Pool(dev=scores, test=scores)
        without.append(best_of_n(pool, 8))
        with_.append(best_of_n(pool, 8, replacement=True))
    error = 4 * np.std(without) / np.sqrt(4000)
    assert np.mean(without) == pytest.approx(8 / 9, abs=error)
    assert np.mean(with_) < 8 / 9 - 5 * error


def test_a_trial_that_diverged_is_picked_last_and_not_dropped() -> None:
    pool = Pool(dev=np.array([-np.inf, 1.0, 2.0]), test=np.array([-5.0, 1.0, 2.0]))
    assert best_of_n(pool, 1) == pytest.approx(-2 / 3)
    assert best_of_n(pool, 2) == pytest.approx((1 + 2 + 2) / 3)


# Intervals over the pool


def test_the_interval_covers_what_fresh_searches_are_worth() -> None:
    simulations, rng, hits = 400, np.random.default_rng(4), 0
    for seed in range(simulations):
        scores = rng.uniform(size=40)
        found = best_of_n_interval(Pool(dev=scores, test=scores), 4, seed=seed, replicates=400)
        assert found.low is not None and found.high is not None
        hits += found.low <= 4 / 5 <= found.high
    # Nominal, less the few points that a percentile interval lacks for a skewed statistic of 40 trials.
    assert hits >= binom.ppf(0.001, simulations, 0.93)


@pytest.mark.parametrize(("n", "coverage"), [(4, 0.92), (12, 0.88), (24, 0.71)])
def test_the_interval_falls_short_by_as_much_as_its_docstring_says(n: int, coverage: float) -> None:
    simulations, rng, hits = 400, np.random.default_rng(8), 0
    for seed in range(simulations):
        scores = rng.uniform(size=32)
        found = best_of_n_interval(Pool(dev=scores, test=scores), n, seed=seed, replicates=300)
        assert found.low is not None and found.high is not None
        hits += found.low <= n / (n + 1) <= found.high
    low, high = binom.interval(0.999, simulations, coverage)
    assert low <= hits <= high


def test_each_replicate_is_best_of_n_of_a_resampled_pool() -> None:
    rng, count = np.random.default_rng(5), 4000
    pool = Pool(dev=np.round(rng.normal(size=10)), test=rng.normal(size=10))
    found = []
    for _ in range(count):
        drawn = rng.integers(0, 10, size=10)
        found.append(best_of_n(Pool(dev=pool.dev[drawn], test=pool.test[drawn]), 3))
    ours = best_of_n_interval(pool, 3, seed=0, replicates=20_000, level=0.6)
    assert ours.estimate == best_of_n(pool, 3)
    error = 5 * np.std(found) * np.sqrt(0.2 * 0.8 / count) / 0.28
    np.testing.assert_allclose([ours.low, ours.high], np.quantile(found, [0.2, 0.8]), atol=error)


def test_luck_in_shared_configurations_cancels_in_the_gap() -> None:
    rng = np.random.default_rng(6)
    shared = 5.0 * rng.normal(size=32)
    one, other = shared + 0.1 * rng.normal(size=32) + 0.3, shared + 0.1 * rng.normal(size=32)
    gap = best_of_n_gap(Pool(dev=one, test=one), Pool(dev=other, test=other), 6, seed=0)
    alone = best_of_n_interval(Pool(dev=one, test=one), 6, seed=0)
    assert gap.low is not None and gap.low > 0.0
    assert width(gap) < 0.2 * width(alone)


def test_exchanging_the_methods_mirrors_the_gap_and_a_copy_has_none() -> None:
    rng = np.random.default_rng(7)
    one, other = (Pool(dev=rng.normal(size=12), test=rng.normal(size=12)) for _ in range(2))
    forth, back = best_of_n_gap(one, other, 4, seed=0), best_of_n_gap(other, one, 4, seed=0)
    assert forth.low is not None and forth.high is not None
    np.testing.assert_allclose([back.estimate, back.low, back.high], [-forth.estimate, -forth.high, -forth.low])
    assert best_of_n_gap(one, one, 4, seed=0) == Interval(estimate=0.0, low=0.0, high=0.0)


def test_a_search_longer_than_the_pool_is_refused_without_replacement() -> None:
    pool = Pool(dev=np.zeros(3), test=np.zeros(3))
    with pytest.raises(AssertionError):
        best_of_n(pool, 4)
    assert best_of_n(pool, 4, replacement=True) == 0.0


def test_a_trial_without_a_value_is_refused() -> None:
    for dev, test in (([np.nan, 0.0], [0.0, 0.0]), ([0.0, 0.0], [0.0, -np.inf])):
        with pytest.raises(AssertionError):
            Pool(dev=np.array(dev), test=np.array(test))


def test_the_mean_over_several_measures_resamples_the_same_trials_for_all() -> None:
    values = np.random.default_rng(5).normal(size=(3, 16))
    pools = [Pool(dev=row, test=row) for row in values]
    its = mean_best_of_n_interval(pools, 4, seed=0)
    assert its.estimate == pytest.approx(np.mean([best_of_n(pool, 4) for pool in pools]))
    # A measure twice is that measure; one and its negative test cancel in every replicate.
    assert mean_best_of_n_interval([pools[0], pools[0]], 4, seed=0) == best_of_n_interval(pools[0], 4, seed=0)
    mirrored = mean_best_of_n_interval([pools[0], Pool(dev=values[0], test=-values[0])], 4, seed=0)
    assert width(mirrored) == pytest.approx(0.0, abs=1e-12)
