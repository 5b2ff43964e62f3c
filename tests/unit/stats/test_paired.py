import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, binomtest, bootstrap, norm, permutation_test, t, ttest_1samp

from betahead.stats.bootstrap import Interval, mean_interval
from betahead.stats.paired import (
    EXACT_UNITS,
    FLIPS,
    Equivalence,
    equivalence,
    paired_interval,
    sign_flip_p,
    smallest_p,
    win_probability,
)

SMALL = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-100, 100))
)
UNITS = st.integers(1, 9).flatmap(lambda n: arrays(np.int64, n, elements=st.integers(-4, 4)))


def simulated(rng: np.random.Generator, shape: tuple[int, int, int], spreads: tuple[float, ...]) -> np.ndarray:
    """Differences of mean 0 with effects of configurations, runs, prompts and single entries."""
    of_configuration, of_run, of_prompt, of_entry = spreads
    c, s, p = shape
    return (
        of_configuration * rng.normal(size=(c, 1, 1))
        + of_run * rng.normal(size=(c, s, 1))
        + of_prompt * rng.normal(size=(1, 1, p))
        + of_entry * rng.normal(size=(c, s, p))
    )


def covered(interval: Interval, truth: float = 0.0) -> bool:
    assert interval.low is not None and interval.high is not None
    return interval.low <= truth <= interval.high


def bounds(interval: Interval) -> list[float]:
    assert interval.low is not None and interval.high is not None
    return [interval.estimate, interval.low, interval.high]


# The hierarchical bootstrap


@pytest.mark.parametrize(
    ("shape", "spreads"),
    [
        pytest.param((1, 20, 60), (0.0, 1.0, 2.0, 0.2), id="seeds and prompts"),
        pytest.param((16, 2, 60), (1.0, 0.2, 3.0, 0.2), id="configurations, seeds and prompts"),
        pytest.param((24, 1, 1), (1.0, 0.0, 0.0, 0.0), id="configurations alone"),
        pytest.param((1, 5, 40), (0.0, 1.0, 1.0, 1.0), id="five seeds"),
        pytest.param((1, 8, 200), (0.0, 0.1, 1.0, 1.0), id="prompts and single entries"),
    ],
)
def test_a_nominal_95_percent_interval_covers_the_truth_in_about_95_percent_of_simulations(
    shape: tuple[int, int, int], spreads: tuple[float, ...]
) -> None:
    simulations, rng = 600, np.random.default_rng(1)
    hits = sum(
        covered(paired_interval(simulated(rng, shape, spreads), seed=seed, replicates=500))
        for seed in range(simulations)
    )
    low, high = binom.interval(0.999, simulations, 0.95)
    assert low <= hits <= high


def test_eight_seeds_are_covered_as_promised_where_a_plain_percentile_interval_falls_short() -> None:
    simulations, rng = 600, np.random.default_rng(2)
    ours = plain = 0
    for seed in range(simulations):
        differences = simulated(rng, (1, 8, 40), (0.0, 1.0, 0.3, 0.5))
        ours += covered(paired_interval(differences, seed=seed, replicates=500))
        plain += covered(mean_interval(differences[0].mean(axis=1), seed=seed, replicates=500))
    low, high = binom.interval(0.999, simulations, 0.95)
    assert low <= ours <= high
    assert plain < 0.92 * simulations


def test_prompts_resampled_alone_would_cover_far_less_where_seeds_matter() -> None:
    simulations, rng = 200, np.random.default_rng(3)
    hits = 0
    for seed in range(simulations):
        of_prompts = simulated(rng, (1, 8, 200), (0.0, 0.3, 1.0, 1.0)).mean(axis=(0, 1))
        hits += covered(mean_interval(of_prompts, seed=seed, replicates=400))
    assert hits < 0.8 * simulations


@pytest.mark.parametrize(
    ("shape", "spreads"),
    [
        pytest.param((1, 20, 300), (0.0, 0.5, 10.0, 10.0), id="prompts matter most"),
        pytest.param((1, 40, 60), (0.0, 0.0, 0.0, 1.0), id="single entries alone"),
        pytest.param((40, 3, 60), (0.2, 0.2, 1.0, 2.0), id="everything"),
    ],
)
def test_no_noise_is_counted_twice(shape: tuple[int, int, int], spreads: tuple[float, ...]) -> None:
    rng, (c, s, p) = np.random.default_rng(4), shape
    shares = np.array([1 / c, 1 / (c * s), 1 / p, 1 / (c * s * p)])
    wanted = 2 * norm.ppf(0.975) * np.sqrt(np.sum(np.square(spreads) * shares))
    widths = []
    for seed in range(40):
        _, low, high = bounds(paired_interval(simulated(rng, shape, spreads), seed=seed, replicates=600))
        widths.append(high - low)
    # Counted twice, single entries alone would give √2; a variance that is never below its parts gives 1.1.
    assert 0.95 < np.mean(widths) / wanted < 1.15


def matched(found: np.ndarray, estimate: float, error: float, freedom: float, level: float) -> list[float]:
    """The quantiles of replicates that were given the standard error and the tails of Student's t distribution."""
    tail = norm.cdf(t.ppf((1 - level) / 2, freedom))
    return [estimate + error * float(q) for q in np.quantile((found - estimate) / found.std(), [tail, 1 - tail])]


@pytest.mark.parametrize(
    ("shape", "spreads"),
    [
        pytest.param((12, 2, 5), (0.2, 0.2, 1.0, 0.2), id="mostly five prompts"),
        pytest.param((3, 1, 4), (0.5, 0.0, 0.5, 1.0), id="mostly single entries"),
    ],
)
def test_the_resamples_are_those_of_a_loop_over_levels_and_their_spread_that_of_variance_components(
    shape: tuple[int, int, int], spreads: tuple[float, ...]
) -> None:
    rng, count, (c, s, p) = np.random.default_rng(5), 40_000, shape
    cells = np.exp(simulated(rng, shape, spreads))
    found = np.empty(count)
    for number in range(count):
        configurations, prompts = rng.integers(0, c, size=(c, 1)), rng.integers(0, p, size=p)
        found[number] = cells[configurations, rng.integers(0, s, size=(c, s))][:, :, prompts].mean()
    table = cells.mean(axis=1)
    a, b = table.mean(axis=1).var(ddof=1) / c, table.mean(axis=0).var(ddof=1) / p
    rest = [table[i, j] - table[i].mean() - table[:, j].mean() + table.mean() for i in range(c) for j in range(p)]
    variance = max(a + b - np.sum(np.square(rest)) / ((c - 1) * (p - 1)) / (c * p), a, b)
    freedom = variance**2 / (a**2 / (c - 1) + b**2 / (p - 1))
    expected = matched(found, cells.mean(), np.sqrt(variance), freedom, 0.8)
    ours = bounds(paired_interval(cells, seed=6, replicates=count, level=0.8))
    # Several standard errors of the two quantiles.
    np.testing.assert_allclose(ours[1:], expected, atol=0.08 * np.sqrt(variance))


def test_a_single_level_is_the_bootstrap_of_scipy_with_the_spread_and_tails_of_a_t_test() -> None:
    values = np.random.default_rng(7).exponential(size=12)
    ours = bounds(paired_interval(values[:, None], seed=0, replicates=40_000))
    theirs = bootstrap(
        (values,), np.mean, n_resamples=40_000, method="percentile", vectorized=True, rng=np.random.default_rng(8)
    ).bootstrap_distribution
    error = values.std(ddof=1) / np.sqrt(12)
    expected = matched(theirs, values.mean(), error, 11, 0.95)
    tail = norm.cdf(t.ppf(0.025, 11))
    np.testing.assert_allclose(ours[1:], expected, atol=8 * error * np.sqrt(tail / 40_000) / norm.pdf(norm.ppf(tail)))


def test_for_symmetric_differences_the_interval_is_close_to_that_of_the_paired_t_test() -> None:
    values = np.random.default_rng(18).normal(size=40)
    ours = bounds(paired_interval(values[:, None], seed=0, replicates=40_000))
    theirs = ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(ours[1:], [theirs.low, theirs.high], atol=0.1 * (theirs.high - theirs.low) / 2)


@given(SMALL, st.integers(0, 2**32 - 1))
def test_exchanging_the_methods_mirrors_the_interval(differences: np.ndarray, seed: int) -> None:
    one = paired_interval(differences, seed=seed, replicates=50)
    other = paired_interval(-differences, seed=seed, replicates=50)
    assert other.estimate == pytest.approx(-one.estimate, abs=1e-9)
    if one.low is not None:
        np.testing.assert_allclose(bounds(other)[1:], [-bounds(one)[2], -bounds(one)[1]], atol=1e-9)


@given(SMALL, st.floats(0.01, 10), st.floats(-10, 10))
def test_scaling_and_shifting_the_differences_scales_and_shifts_the_interval(
    differences: np.ndarray, scale: float, shift: float
) -> None:
    one = paired_interval(differences, seed=5, replicates=50)
    other = paired_interval(scale * differences + shift, seed=5, replicates=50)
    if one.low is not None:
        np.testing.assert_allclose(bounds(other), scale * np.array(bounds(one)) + shift, atol=1e-8)


def test_two_axes_are_a_single_configuration() -> None:
    differences = np.random.default_rng(9).normal(size=(6, 10))
    assert paired_interval(differences, seed=0) == paired_interval(differences[None], seed=0)


def test_a_single_entry_has_no_interval() -> None:
    assert paired_interval(np.array([[2.0]]), seed=0) == Interval(estimate=2.0, low=None, high=None)


def test_a_run_that_diverged_cannot_be_averaged_away() -> None:
    with pytest.raises(AssertionError, match="must be finite"):
        paired_interval(np.array([[1.0, np.nan]]), seed=0)


def test_two_thousand_replicates_of_96_runs_on_a_thousand_prompts_take_less_than_a_second() -> None:
    differences = np.random.default_rng(10).normal(size=(32, 3, 1000))
    began = time.process_time()
    paired_interval(differences, seed=0)
    assert time.process_time() - began < 1.0


# Equivalence


def test_a_difference_as_large_as_the_region_is_called_equivalent_in_at_most_5_percent() -> None:
    simulations, rng = 600, np.random.default_rng(11)
    called = sum(
        equivalence(1.0 + rng.normal(size=(12, 1)), rope=1.0, seed=seed, replicates=500).holds
        for seed in range(simulations)
    )
    assert called <= binom.ppf(0.999, simulations, 0.05)


def test_no_difference_is_called_equivalent_once_the_units_suffice() -> None:
    rng = np.random.default_rng(12)
    called = [equivalence(rng.normal(size=(30, 1)), rope=1.0, seed=seed, replicates=300).holds for seed in range(100)]
    assert np.mean(called) > 0.95


def test_equivalence_needs_an_interval_strictly_inside_the_region() -> None:
    def holds(low: float | None, high: float | None) -> bool:
        return Equivalence(interval=Interval(estimate=0.0, low=low, high=high), rope=1.0).holds

    assert holds(-0.99, 0.99)
    assert not holds(-1.0, 0.5) and not holds(-0.5, 1.0) and not holds(-2.0, 2.0) and not holds(None, None)


def test_the_interval_of_equivalence_is_that_of_90_percent() -> None:
    differences = np.random.default_rng(13).normal(size=(9, 20))
    found = equivalence(differences, rope=0.5, seed=3)
    assert found.interval == paired_interval(differences, seed=3, level=0.9)


# Signs


def p_of_a_loop(differences: np.ndarray) -> float:
    sums = [abs(int(np.dot(signs, differences))) for signs in itertools.product([-1, 1], repeat=len(differences))]
    return float(np.mean([total >= abs(int(differences.sum())) for total in sums]))


@given(UNITS)
def test_the_p_value_is_that_of_a_loop_over_all_signs_ties_and_zeros_included(differences: np.ndarray) -> None:
    assert sign_flip_p(differences.astype(np.float64)) == pytest.approx(p_of_a_loop(differences), abs=1e-15)
    # The same in tenths, whose sums are rounded.
    assert sign_flip_p(differences * 0.1) == pytest.approx(p_of_a_loop(differences), abs=1e-15)


def test_the_p_value_is_that_of_scipy() -> None:
    differences = np.random.default_rng(14).normal(0.5, 1.0, size=13)
    theirs = permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=2**13
    )
    assert sign_flip_p(differences) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_under_the_null_every_reachable_p_value_is_equally_likely() -> None:
    sizes = np.random.default_rng(15).normal(size=8)
    found = [sign_flip_p(sizes * np.array(signs)) for signs in itertools.product([-1, 1], repeat=8)]
    values, counts = np.unique(found, return_counts=True)
    np.testing.assert_allclose(values, np.arange(1, 129) / 128)
    np.testing.assert_array_equal(counts, 2)


@pytest.mark.parametrize("units", [1, 2, 6, 20, EXACT_UNITS])
def test_differences_of_one_sign_reach_the_smallest_p_value(units: int) -> None:
    assert sign_flip_p(np.linspace(1.0, 2.0, units)) == smallest_p(units) == 2.0 ** (1 - units)


@pytest.mark.parametrize("units", [EXACT_UNITS + 1, 60])
def test_beyond_the_exact_units_no_p_is_below_that_of_the_random_flips(units: int) -> None:
    assert sign_flip_p(np.linspace(1.0, 2.0, units)) == smallest_p(units) == 1 / (FLIPS + 1)


@given(arrays(np.float64, 8, elements=st.floats(-10, 10)), st.permutations(range(8)), st.floats(0.1, 10))
def test_sign_order_and_unit_of_the_differences_do_not_matter(
    differences: np.ndarray, order: list[int], scale: float
) -> None:
    p = sign_flip_p(differences)
    assert sign_flip_p(-differences) == p == sign_flip_p(differences[order])
    assert sign_flip_p(scale * differences) == p


def test_beyond_the_exact_the_random_flips_agree_with_it() -> None:
    differences = np.random.default_rng(16).normal(0.25, 1.0, size=EXACT_UNITS)
    exact = sign_flip_p(differences)
    assert 0.01 < exact < 0.5
    # A difference of 0 changes nothing but the number of units.
    drawn = sign_flip_p(np.append(differences, 0.0), seed=1)
    assert drawn == pytest.approx(exact, abs=5 * np.sqrt(exact / 100_000))
    assert sign_flip_p(np.ones(EXACT_UNITS + 1), flips=999) == 1 / 1000


# P(A > B)


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.5, 0.99))
def test_the_interval_of_the_win_probability_is_that_of_scipy(wins: int, losses: int, level: float) -> None:
    if wins + losses == 0:
        return
    found = win_probability(np.concatenate([np.ones(wins), -np.ones(losses)]), level=level)
    theirs = binomtest(wins, wins + losses).proportion_ci(level, method="wilson")
    np.testing.assert_allclose(bounds(found), [wins / (wins + losses), theirs.low, theirs.high], atol=1e-9)


@given(UNITS)
def test_exchanging_the_methods_gives_the_complement(differences: np.ndarray) -> None:
    one, other = win_probability(differences * 1.0), win_probability(differences * -1.0)
    estimate, low, high = bounds(one)
    np.testing.assert_allclose(bounds(other), [1.0 - estimate, 1.0 - high, 1.0 - low], atol=1e-12)


def test_a_tie_counts_half_and_all_wins_are_not_certainty() -> None:
    assert win_probability(np.array([3.0, 0.0, 0.0, -1.0])).estimate == 0.5
    np.testing.assert_allclose(bounds(win_probability(np.ones(8))), [1.0, 0.6756, 1.0], atol=1e-4)


def test_the_interval_of_the_win_probability_covers_it() -> None:
    simulations, rng = 1000, np.random.default_rng(17)
    truth = norm.cdf(0.5)
    hits = sum(covered(win_probability(rng.normal(0.5, 1.0, size=30)), truth) for _ in range(simulations))
    assert hits >= binom.ppf(0.001, simulations, 0.95)
