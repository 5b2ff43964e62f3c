import numpy as np
import pytest
from bandit import PLAN, bandit_of

from betahead.compare.plan import load_plan
from betahead.compare.pool import pool_of, searches_of
from betahead.compare.resolved import resolve


def resolved_of(text=PLAN):
    return resolve(load_plan(text), bandit_of)


WITH_PLACEBO = PLAN.replace("  fixed: {}", "  fixed: {}\n  'permuted:shifted': {space: {knob: {low: 0.5, high: 2.0}}}")


def test_shared_axes_take_the_same_points_in_every_method():
    resolved = resolved_of(WITH_PLACEBO)
    fixed, shifted = pool_of(resolved, "fixed"), pool_of(resolved, "shifted")
    assert len(fixed) == len(shifted) == 8
    assert [(one["learning_rate"], one["beta"]) for one in fixed] == [
        (one["learning_rate"], one["beta"]) for one in shifted
    ]


def test_a_method_and_its_placebo_have_the_same_configurations():
    resolved = resolved_of(WITH_PLACEBO)
    assert pool_of(resolved, "shifted") == pool_of(resolved, "permuted:shifted")


def test_a_pool_lies_in_its_space_and_fills_it():
    pool = pool_of(resolved_of(PLAN.replace("configurations: 8", "configurations: 32")), "shifted")
    for name, low, high in (("learning_rate", 0.01, 0.3), ("beta", 0.1, 2.0), ("knob", 0.5, 2.0)):
        share = np.log([one[name] for one in pool]) - np.log(low)
        share = share / np.log(high / low)
        # One point in each eighth at least: even on the log scale.
        assert set(np.floor(8 * share).astype(int)) == set(range(8)), name


def test_the_own_axis_is_not_tied_to_the_shared_ones():
    pool = pool_of(resolved_of(PLAN.replace("configurations: 8", "configurations: 64")), "shifted")
    knob, rate = (np.log([one[name] for one in pool]) for name in ("knob", "learning_rate"))
    assert abs(np.corrcoef(knob, rate)[0, 1]) < 0.3


@pytest.mark.parametrize("count", [1, 5, 8])
def test_any_number_of_configurations_can_be_drawn(count):
    text = PLAN.replace("configurations: 8, trials: 4", f"configurations: {count}, trials: 1")
    assert len(pool_of(resolved_of(text), "fixed")) == count


def test_an_included_configuration_takes_a_place_and_adds_none():
    text = PLAN.replace("fixed: {}", "fixed: {include: [{learning_rate: 0.1, beta: 1.0}]}")
    pool = pool_of(resolved_of(text), "fixed")
    assert pool[0] == {"learning_rate": 0.1, "beta": 1.0}
    assert pool[1:] == pool_of(resolved_of(), "fixed")[1:]


def test_another_seed_draws_other_points_and_a_linear_axis_is_even_on_its_own_scale():
    assert pool_of(resolved_of(PLAN + "seed: 1\n"), "fixed") != pool_of(resolved_of(), "fixed")
    text = PLAN.replace("beta: {low: 0.1, high: 2.0}", "beta: {low: 0.0, high: 2.0, log: false}")
    betas = [
        one["beta"] for one in pool_of(resolved_of(text.replace("configurations: 8", "configurations: 32")), "fixed")
    ]
    assert np.mean(betas) == pytest.approx(1.0, abs=0.1)


def test_every_final_has_a_search_of_its_own_without_repeats():
    searches = searches_of(resolved_of())
    assert searches.shape == (8, 4)
    assert all(len(set(search)) == 4 for search in searches.tolist())
    assert len({tuple(search) for search in searches.tolist()}) > 4
