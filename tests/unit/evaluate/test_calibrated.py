"""Calibration before and after a cross-fitted temperature, against planted factors and plain loops."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from betahead.evaluate.calibrated import calibration_of
from betahead.stats.bootstrap import statistic_interval
from betahead.stats.calibration import brier, ece, nll, slope


def planted(pairs, factor, seed=0):
    """Logits of a model that says `factor` times what is true, by the side that won."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, pairs)
    won = rng.random(pairs) < 1 / (1 + np.exp(-truth))
    return factor * np.where(won, truth, -truth), np.array([str(n // 2) for n in range(pairs)])


def naive_factor(z):
    """The a of least loss with the target (N + 1)/(N + 2), by looking everywhere."""
    target = (len(z) + 1) / (len(z) + 2)

    def loss(a):
        return np.sum(target * np.logaddexp(0, -a * z) + (1 - target) * np.logaddexp(0, a * z))

    return minimize_scalar(loss, bounds=(1e-3, 20), method="bounded", options={"xatol": 1e-10}).x


@pytest.mark.parametrize("factor", [0.1, 1.0, 8.0])
def test_a_planted_factor_is_found_and_taken_back(factor):
    z, prompts = planted(4000, factor)
    before, after = calibration_of(z, prompts, seed=0, replicates=40)
    assert before.slope.estimate == pytest.approx(1 / factor, rel=0.1)
    assert after.factor == pytest.approx(before.slope.estimate, rel=0.01)
    assert after.slope.estimate == pytest.approx(1.0, abs=0.05)
    assert after.folds == 5
    truth, _ = planted(4000, 1.0)
    assert after.nll.estimate == pytest.approx(nll(truth), abs=2e-3)
    assert after.ece.estimate < 0.03
    if factor != 1.0:
        assert before.nll.estimate > after.nll.estimate + 0.01
        assert before.brier.estimate > after.brier.estimate + 0.001
        assert before.ece.estimate > after.ece.estimate + 0.05


def test_before_is_what_each_statistic_gives_by_itself():
    z, prompts = planted(60, 3.0)
    before, _ = calibration_of(z, prompts, seed=4, replicates=50)
    for name, one in {"nll": nll, "brier": brier, "ece": ece, "slope": slope}.items():
        alone = statistic_interval(lambda w, one=one: one(z, w), prompts, seed=4, replicates=50)
        found = before.intervals()[name]
        assert found.estimate == pytest.approx(alone.estimate)
        assert found.low == pytest.approx(alone.low, rel=1e-2)
        assert found.high == pytest.approx(alone.high, rel=1e-2)


def test_no_pair_is_rescaled_with_its_own_label():
    z, prompts = planted(40, 3.0)
    _, whole = calibration_of(z, prompts, seed=0, replicates=2)
    names = np.unique(prompts)
    fold = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % 5, strict=True))
    member = np.array([fold[name] for name in prompts])
    scaled = np.array([z[row] * naive_factor(z[member != member[row]]) for row in range(len(z))])
    assert whole.nll.estimate == pytest.approx(nll(scaled), rel=1e-5)
    assert whole.ece.estimate == pytest.approx(ece(scaled), rel=1e-4)
    assert whole.slope.estimate == pytest.approx(slope(scaled), rel=1e-4)


def test_noise_is_not_made_to_look_good_by_rescaling():
    rng = np.random.default_rng(1)
    z, prompts = rng.normal(0, 5, 400), np.array([str(n) for n in range(400)])
    _, after = calibration_of(z, prompts, seed=0, replicates=20)
    assert after.nll.estimate > math.log(2) - 0.01


def test_where_every_pair_is_right_the_slope_is_infinite_and_the_factor_is_not():
    z, prompts = np.array([1.0, 2.0, 3.0]), np.array(["a", "b", "c"])
    before, after = calibration_of(z, prompts, seed=0, replicates=20)
    assert (before.slope.estimate, before.slope.low, before.slope.high) == (math.inf, math.inf, math.inf)
    assert after.factor == pytest.approx(naive_factor(z), rel=1e-5) and after.folds == 3
    assert after.nll.high < 1
    wrong, _ = calibration_of(-z, prompts, seed=0, replicates=20)
    assert wrong.slope.estimate == -math.inf


def test_one_wrong_pair_gives_an_interval_with_an_infinite_end():
    z = np.array([1.0] * 9 + [-1.0])
    before, _ = calibration_of(z, np.array([str(n) for n in range(10)]), seed=0, replicates=200)
    assert before.slope.estimate == pytest.approx(math.log(9))
    assert 0 < before.slope.low < before.slope.estimate and before.slope.high == math.inf


def test_logits_below_the_rounding_of_the_largest_have_no_say_in_the_slope():
    z, prompts = np.array([1e-147, -2e-67, 20.0, 0.3, -27.0, -1e-85]), np.array(list("rqqprs"))
    before, after = calibration_of(z, prompts, seed=0, replicates=20)
    alone, _ = calibration_of(np.where(abs(z) < 1e-6, 0.0, z), prompts, seed=0, replicates=20)
    assert before.slope == alone.slope
    assert math.isfinite(after.nll.high) and after.folds == 4
    nothing, _ = calibration_of(np.array([0.0, 8.6e-241]), np.array(["a", "b"]), seed=0, replicates=20)
    assert math.isnan(nothing.slope.estimate)


def test_a_policy_that_is_its_reference_has_no_slope():
    before, after = calibration_of(np.zeros(4), np.array(list("abcd")), seed=0, replicates=10)
    assert math.isnan(before.slope.estimate) and before.slope.low is None
    assert (before.nll.estimate, before.brier.estimate, before.ece.estimate) == (math.log(2), 0.25, 0.0)
    assert after.factor == 1.0 and after.nll.estimate == pytest.approx(math.log(2))


def test_a_single_prompt_has_no_interval_and_nothing_to_fit_on():
    before, after = calibration_of(np.array([1.0, -2.0]), np.array(["a", "a"]), seed=0)
    assert before.nll.low is None and before.slope.low is None
    assert after is None
