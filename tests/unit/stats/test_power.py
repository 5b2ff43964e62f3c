import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, nct, norm, t

from betahead.stats.paired import sign_flip_p
from betahead.stats.power import (
    can_reach,
    detection_power,
    equivalence_power,
    minimum_detectable_effect,
    smallest_units,
    units_to_detect,
    units_to_settle,
    units_to_show_equivalence,
)


def within(hits: int, simulations: int, chance: float) -> bool:
    low, high = binom.interval(0.999, simulations, chance)
    return bool(low <= hits <= high)


# What a sign-flip test can reach


@pytest.mark.parametrize(("comparisons", "units"), [(1, 6), (2, 7), (3, 7), (5, 8), (8, 9), (30, 11)])
def test_the_fewest_units_are_those_whose_clearest_result_is_significant_after_holm(
    comparisons: int, units: int
) -> None:
    assert smallest_units(comparisons=comparisons) == units
    assert comparisons * sign_flip_p(np.ones(units)) <= 0.05 < comparisons * sign_flip_p(np.ones(units - 1))


@given(st.integers(1, 60), st.integers(1, 50), st.floats(0.001, 0.5))
def test_a_plan_can_reach_its_level_from_the_fewest_units_on(units: int, comparisons: int, alpha: float) -> None:
    fewest = smallest_units(comparisons=comparisons, alpha=alpha)
    assert can_reach(units, comparisons=comparisons, alpha=alpha) == (units >= fewest)


def test_more_than_the_exact_units_cannot_serve_thousands_of_tests() -> None:
    assert can_reach(40, comparisons=6000) and not can_reach(41, comparisons=6000)
    assert smallest_units(comparisons=6000) == 18


# Detectable effects


@pytest.mark.parametrize("units", [5, 8, 10, 20, 100])
@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_power_is_that_of_the_non_central_t_distribution_of_scipy(units: int, comparisons: int) -> None:
    for effect in (0.3, 1.0, 1.7):
        critical, shift = t.isf(0.025 / comparisons, units - 1), effect / 2.0 * np.sqrt(units)
        right_sign = nct.sf(critical, units - 1, shift)
        # Finding the wrong sign needs a negative mean at least; scipy's own lower tail is nan for some of these.
        wrong_sign = norm.cdf(-shift)
        ours = detection_power(effect, 2.0, units, comparisons=comparisons)
        assert right_sign - 1e-6 <= ours <= right_sign + wrong_sign + 1e-6


def test_the_power_is_what_simulated_t_tests_show() -> None:
    simulations, rng = 20_000, np.random.default_rng(0)
    for effect, units, comparisons in ((0.0, 6, 1), (1.0, 10, 1), (-0.8, 8, 5)):
        values = rng.normal(effect, 1.0, size=(simulations, units))
        statistic = values.mean(axis=1) / (values.std(axis=1, ddof=1) / np.sqrt(units))
        hits = int((np.abs(statistic) > t.isf(0.025 / comparisons, units - 1)).sum())
        assert within(hits, simulations, detection_power(effect, 1.0, units, comparisons=comparisons))


def test_ten_paired_seeds_detect_an_effect_of_one_sd() -> None:
    assert minimum_detectable_effect(1.0, 10) == pytest.approx(0.996, abs=5e-4)
    assert detection_power(1.0, 1.0, 10) == pytest.approx(0.803, abs=5e-4)
    assert units_to_detect(1.0, 1.0) == 10


def test_805_prompts_with_a_paired_error_of_one_and_a_third_detect_3_7_points() -> None:
    sd = 1.33 * np.sqrt(805)
    assert minimum_detectable_effect(sd, 805, distribution="normal") == pytest.approx(2.8016 * 1.33, abs=1e-3)
    assert minimum_detectable_effect(sd, 805) == pytest.approx(3.73, abs=0.01)


@given(st.floats(0.01, 100), st.integers(2, 200), st.floats(0.8, 0.99), st.integers(1, 20), st.floats(0.01, 0.2))
@settings(deadline=None)
def test_the_detectable_effect_has_the_power_it_was_asked_for(
    sd: float, units: int, power: float, comparisons: int, alpha: float
) -> None:
    effect = minimum_detectable_effect(sd, units, power=power, comparisons=comparisons, alpha=alpha)
    assert detection_power(effect, sd, units, comparisons=comparisons, alpha=alpha) == pytest.approx(power, abs=1e-6)
    known = minimum_detectable_effect(
        sd, units, power=power, comparisons=comparisons, alpha=alpha, distribution="normal"
    )
    assert known <= effect * (1 + 1e-6), "an SD that must be estimated cannot help"
    assert effect <= minimum_detectable_effect(sd, units, power=power, comparisons=comparisons + 1, alpha=alpha)


def test_without_noise_every_effect_is_detected() -> None:
    assert minimum_detectable_effect(0.0, 6) == 0.0
    assert detection_power(1e-9, 0.0, 6) == 1.0
    assert equivalence_power(0.1, 0.0, 6) == 1.0 and equivalence_power(0.1, 0.0, 6, effect=0.1) == 0.0


# Equivalence


def test_the_power_of_equivalence_is_what_simulated_pairs_of_tests_show() -> None:
    simulations, rng = 20_000, np.random.default_rng(1)
    for effect, units, rope in ((0.0, 8, 1.0), (0.0, 6, 0.6), (0.4, 15, 1.0), (1.0, 12, 1.0)):
        values = rng.normal(effect, 1.0, size=(simulations, units))
        reach = t.isf(0.05, units - 1) * values.std(axis=1, ddof=1) / np.sqrt(units)
        hits = int(((values.mean(axis=1) - reach > -rope) & (values.mean(axis=1) + reach < rope)).sum())
        assert within(hits, simulations, equivalence_power(rope, 1.0, units, effect=effect))


@given(st.floats(0.1, 10), st.floats(0.01, 10), st.integers(2, 100), st.floats(1.0, 3.0))
@settings(deadline=None)
def test_a_difference_outside_the_region_is_called_equivalent_no_more_often_than_alpha(
    rope: float, sd: float, units: int, times: float
) -> None:
    assert equivalence_power(rope, sd, units, effect=times * rope) <= 0.05 + 1e-6
    one, other = (equivalence_power(rope, sd, units, effect=sign * rope / 2) for sign in (1, -1))
    assert one == pytest.approx(other, abs=1e-9)


# Runs that settle a question


@given(st.floats(0.2, 3), st.floats(0.5, 5), st.integers(1, 10))
@settings(deadline=None, max_examples=40)
def test_the_fewest_units_suffice_and_one_less_does_not(effect: float, sd: float, comparisons: int) -> None:
    units = units_to_detect(effect, sd, comparisons=comparisons)
    assert detection_power(effect, sd, units, comparisons=comparisons) >= 0.8
    assert units == 2 or detection_power(effect, sd, units - 1, comparisons=comparisons) < 0.8
    units = units_to_show_equivalence(effect, sd)
    assert equivalence_power(effect, sd, units) >= 0.8
    assert units == 2 or equivalence_power(effect, sd, units - 1) < 0.8


def test_a_question_is_settled_by_the_most_demanding_of_three_answers() -> None:
    assert units_to_settle(1.0, effect=2.0, rope=1.0) == units_to_show_equivalence(1.0, 1.0) == 11
    assert units_to_settle(1.0, effect=0.5, rope=2.0) == units_to_detect(0.5, 1.0)
    assert units_to_settle(0.01, effect=2.0, rope=1.0, comparisons=5) == smallest_units(comparisons=5)


def test_with_the_units_that_settle_it_a_simulated_comparison_ends_in_80_percent_of_cases() -> None:
    units, simulations, rng = units_to_settle(1.0, effect=1.2, rope=0.6), 4000, np.random.default_rng(2)
    for effect in (0.0, 1.2):
        values = rng.normal(effect, 1.0, size=(simulations, units))
        error = values.std(axis=1, ddof=1) / np.sqrt(units)
        different = np.abs(values.mean(axis=1)) > t.isf(0.025, units - 1) * error
        alike = np.abs(values.mean(axis=1)) + t.isf(0.05, units - 1) * error < 0.6
        assert int((different if effect else alike).sum()) >= binom.ppf(0.001, simulations, 0.8)


def test_no_number_of_units_finds_a_difference_of_nothing() -> None:
    with pytest.raises(AssertionError, match="no number of units"):
        units_to_detect(0.0, 1.0)
