import numpy as np
import pytest

from betahead.stats import calibration
from betahead.stats.soft_calibration import soft_brier, soft_ece, soft_nll, soft_slope

PAIRS = ((soft_nll, calibration.nll), (soft_brier, calibration.brier), (soft_ece, calibration.ece))


@pytest.fixture(scope="module")
def drawn():
    """Logits of 2 × 3 runs on pairs that the runs of a seed share."""
    rng = np.random.default_rng(0)
    z = 2.0 * rng.standard_normal((2, 3, 40))
    z[0, 0, :5] = 0.0
    chance, weight = rng.uniform(0.05, 0.95, (2, 1, 40)), rng.uniform(0.1, 1.0, (2, 1, 40))
    return z, chance, weight / weight.sum(-1, keepdims=True)


def as_rows(drawn, run):
    """A run's pairs with both of their labels, as the estimates on drawn labels take them."""
    z, chance, weight = drawn
    chance, weight = chance[run[0], 0], weight[run[0], 0]
    return np.concatenate([z[run], -z[run]]), np.concatenate([weight * chance, weight * (1 - chance)])


@pytest.mark.parametrize(("soft", "hard"), PAIRS)
def test_a_pair_with_a_known_chance_is_its_two_labels_weighted(soft, hard, drawn):
    found = soft(*drawn)
    assert found.shape == (2, 3)
    for run in np.ndindex(2, 3):
        assert found[run] == pytest.approx(float(hard(*as_rows(drawn, run))), rel=1e-12)


def test_the_slope_is_that_of_the_two_labels_at_every_scale(drawn):
    z, chance, weight = drawn
    for scale in (1e-6, 1.0, 1e6):
        found = soft_slope(scale * z, chance, weight)
        for run in np.ndindex(2, 3):
            rows, counts = as_rows(drawn, run)
            assert scale * found[run] == pytest.approx(float(calibration.slope(rows, counts)), rel=1e-6)


def test_a_calibrated_model_has_slope_one_no_error_and_the_entropy_of_the_labels():
    chance = np.array([0.2, 0.5, 0.9])
    weight = np.full(3, 1 / 3)
    z = np.log(chance / (1 - chance))
    entropy = -np.mean(chance * np.log(chance) + (1 - chance) * np.log(1 - chance))
    assert float(soft_slope(z, chance, weight)) == pytest.approx(1.0)
    assert float(soft_ece(z, chance, weight)) == pytest.approx(0.0, abs=1e-15)
    assert float(soft_nll(z, chance, weight)) == pytest.approx(entropy)


def test_a_model_that_says_nothing_has_log_two_a_quarter_no_error_and_no_slope():
    z, chance, weight = np.zeros(4), np.full(4, 0.8), np.full(4, 0.25)
    assert float(soft_nll(z, chance, weight)) == pytest.approx(np.log(2))
    assert float(soft_brier(z, chance, weight)) == 0.25
    assert float(soft_ece(z, chance, weight)) == 0.0
    assert np.isnan(soft_slope(z, chance, weight))
