"""The law of the scope: intervals hold in other pools of configurations where a plan says so, and only there."""

import numpy as np
import pytest
from bandit import PLAN, bandit_of
from scipy.stats import binomtest

from betahead.compare.plan import load_plan
from betahead.compare.pool import searches_of
from betahead.compare.resolved import resolve
from betahead.stats.paired import paired_interval, sign_flip_p


def in_fresh_pools(configurations, pools):
    """In how many of so many pools the 95 % interval of copies holds 0, and in how many p is below .05.

    What a configuration is worth to either copy is its own luck; a search of twelve takes the best, and a final repeats
    it with a little noise. So the truth over pools is 0, and within a pool it is not.
    """
    text = PLAN.replace("configurations: 8, trials: 4", f"configurations: {configurations}, trials: 12")
    held = rejected = 0
    for seed in range(pools):
        plan = load_plan(text.replace("finals: {seeds: 8}", "finals: {seeds: 20}") + f"seed: {seed}\n")
        searches = searches_of(resolve(plan, bandit_of))
        rng = np.random.default_rng(seed)
        worth = rng.standard_normal((2, configurations))
        finals = worth[:, searches].max(axis=2) + 0.2 * rng.standard_normal((2, 20))
        found = paired_interval((finals[0] - finals[1])[:, None], seed=0, replicates=300)
        held += found.low <= 0.0 <= found.high
        rejected += sign_flip_p(finals[0] - finals[1]) < 0.05
    return held, rejected


def test_searches_that_are_apart_hold_in_fresh_pools():
    held, rejected = in_fresh_pools(240, 300)
    assert binomtest(held, 300).proportion_ci().high >= 0.95 and held >= 0.92 * 300
    assert binomtest(rejected, 300).proportion_ci().low <= 0.05


@pytest.mark.parametrize("configurations", [32, 64])
def test_searches_that_overlap_do_not(configurations):
    held, rejected = in_fresh_pools(configurations, 150)
    assert held < 0.75 * 150 and rejected > 0.25 * 150
