import numpy as np
import pytest

from betahead.compare.reach import sds_for_better
from betahead.compare.rules import Rules
from betahead.compare.verdict import decide, mechanism
from betahead.stats.bootstrap import Interval
from betahead.stats.multiple import holm
from betahead.stats.paired import paired_interval, sign_flip_p
from betahead.stats.power import minimum_detectable_effect

RULES = Rules(rope=0.1)


def decision(differences, rules=RULES):
    return decide([[np.asarray(differences, dtype=float)[:, None]]], rules)[0][0]


def finals(mean, sd, count=20, seed=0):
    noise = np.random.default_rng(seed).standard_normal(count)
    return mean + sd * (noise - noise.mean()) / noise.std(ddof=1)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        (finals(0.3, 0.1), "better"),
        (finals(-0.3, 0.1), "worse"),
        (finals(0.0, 0.1), "equivalent"),
        (finals(0.0, 1.0), "inconclusive"),
        # Significant, but too small to be worth having, and not shown to be.
        (finals(0.09, 0.05), "inconclusive"),
        (finals(0.05, 0.02), "equivalent"),
        (np.zeros(20), "equivalent"),
        # Five finals: no p below 1/16, whatever the effect.
        (finals(0.5, 0.01, count=5), "inconclusive"),
    ],
)
def test_a_verdict_follows_from_interval_effect_p_and_wins(differences, verdict):
    assert decision(differences).verdict == verdict


# Each lacks one condition of "better" and has the other three. 12 finals agree on 12 prompts that do not.
TASTES = np.random.default_rng(2).normal(0.35, 1.0, size=12) + 0.05 * np.random.default_rng(3).normal(size=(12, 12))
LACKING = {
    "interval": TASTES,
    "effect": finals(0.09, 0.05)[:, None],
    "p": finals(0.5, 0.01, count=5)[:, None],
    # A mean that is clearly positive, but a fresh run mostly loses, or does not win often enough.
    "wins": np.array([-0.01] * 14 + [2.0] * 6)[:, None],
    "a few more wins": np.array([1.0] * 14 + [-0.3] * 6)[:, None],
}


@pytest.mark.parametrize("sign", [1, -1], ids=["better", "worse"])
@pytest.mark.parametrize("lacking", LACKING)
def test_where_one_condition_is_lacking_nothing_is_better_or_worse(lacking, sign):
    ((its,),) = decide([[sign * LACKING[lacking]]], RULES)
    least = its.effect.low if sign > 0 else -its.effect.high
    wins = its.wins.estimate if sign > 0 else 1 - its.wins.estimate
    held = {"interval": least > 0, "effect": sign * its.effect.estimate >= 0.1, "p": its.p_holm < 0.05}
    held["wins"] = wins >= 0.75
    assert [name for name, holds in held.items() if not holds] == [lacking if lacking in held else "wins"]
    assert its.verdict == "inconclusive"


@pytest.mark.parametrize("alpha", [0.05, 0.1])
def test_intervals_and_power_are_at_the_level_of_the_rules_and_power_counts_the_family(alpha):
    tests = [finals(0.05, 0.4, seed=seed)[:, None] for seed in range(3)]
    rules = Rules(rope=0.1, alpha=alpha, seed=7)
    for its, differences in zip(decide([tests], rules)[0], tests, strict=True):
        assert its.effect == paired_interval(differences, seed=7, level=1 - alpha)
        assert its.ninety == paired_interval(differences, seed=7, level=1 - 2 * alpha)
        assert its.minimum_detectable_effect == minimum_detectable_effect(its.sd, 20, alpha=alpha, comparisons=3)


def test_holm_runs_over_each_family_on_its_own():
    tests = [finals(mean, 0.2, count=10, seed=seed)[:, None] for seed, mean in enumerate((0.3, 0.12, 0.0))]
    together = decide([tests], RULES)[0]
    p = np.array([sign_flip_p(one[:, 0]) for one in tests])
    np.testing.assert_allclose([one.p for one in together], p)
    np.testing.assert_allclose([one.p_holm for one in together], holm(p))
    apart = decide([[one] for one in tests], RULES)
    assert [one[0].p_holm for one in apart] == [one[0].p for one in apart]


def test_prompts_that_all_finals_share_widen_the_interval():
    rng = np.random.default_rng(2)
    prompts = rng.normal(0.2, 1.0, size=30)
    crossed = prompts + rng.normal(0, 0.1, size=(10, 30))
    shared = decide([[crossed]], RULES)[0][0]
    nested = decide([[crossed.mean(axis=1, keepdims=True)]], RULES)[0][0]
    assert shared.effect.estimate == pytest.approx(nested.effect.estimate)
    assert shared.effect.high - shared.effect.low > 3 * (nested.effect.high - nested.effect.low)


def test_the_detectable_effect_is_that_of_the_finals_that_there_were():
    assert decision(finals(0.05, 0.4)).minimum_detectable_effect == pytest.approx(0.4 * 0.66, abs=0.01)


@pytest.mark.parametrize(
    ("against", "verdict"),
    [
        ({"fixed": "better", "permuted": "better"}, "shown"),
        ({"fixed": "better", "permuted": "equivalent"}, "not shown"),
        ({"fixed": "worse", "permuted": "inconclusive"}, "not shown"),
        ({"fixed": "better", "permuted": "inconclusive"}, "open"),
    ],
)
def test_a_mechanism_needs_every_one_of_its_opponents(against, verdict):
    assert mechanism(against) == verdict


def test_the_effect_that_reaches_better_is_found_in_four_of_five_replays():
    rules = Rules(rope=0.5 * sds_for_better(12, alpha=0.05, family=1), replicates=400)
    rng = np.random.default_rng(3)
    found = [decision(rng.normal(2 * rules.rope, 1.0, size=12), rules).verdict == "better" for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.07)


def test_no_effect_reaches_better_with_too_few_finals():
    assert sds_for_better(5, alpha=0.05, family=1) == float("inf")
    assert sds_for_better(20, alpha=0.05, family=1) < sds_for_better(20, alpha=0.05, family=80)


def test_the_wins_that_better_needs_are_in_the_effect_that_reaches_it():
    test_alone = minimum_detectable_effect(1.0, 20)
    assert test_alone == pytest.approx(0.66, abs=0.005)
    assert sds_for_better(20, alpha=0.05, family=1) == pytest.approx(0.84, abs=0.01)


def test_one_final_has_no_interval_and_no_verdict():
    its = decision([0.4])
    assert its.effect == Interval(estimate=0.4, low=None, high=None)
    assert its.verdict == "inconclusive"
