import numpy as np
import pytest

from betahead.compare.score import scores_of
from betahead.compare.self_test import SHORT, Size, self_test
from betahead.compare.self_test_exact import ExactMethod, ExactWorld
from betahead.compare.self_test_replays import CONDITIONS, against_itself, planted
from betahead.compare.self_test_truth import _OWN_SEEDS, MUST_WIN, _OwnSeeds, recorded_headroom, verdict_on_copy
from betahead.errors import ConfigError
from betahead.worlds.tabular_methods import tabular_method_world


def worth(world, method, configurations, seeds, split):
    """Gold of runs at the KL of the world: (configurations, seeds)."""
    outcome = world.run(method, configurations, seeds, split=split)
    gold = scores_of(outcome, world.kl_targets(), ()).values["gold_at_kl_0"]
    return gold.mean(axis=1).reshape(len(configurations), len(seeds))


def test_the_protocol_can_say_no_and_yes_in_its_short_form():
    seen, work = [], []
    checks = self_test(SHORT, on_check=seen.append, on_work=work.append)
    assert seen == checks and len(checks) == 33
    assert "copies against each other: replay 25 of 25" in work and len(set(work)) == len(work) == 4 * 25 + 5
    assert [check.sentence for check in checks if not check.passed] == []
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.slow
def test_the_protocol_can_say_no_and_yes():
    assert [check.sentence for check in self_test(Size()) if not check.passed] == []


def test_a_verdict_that_ignores_holm_the_effect_or_the_wins_is_seen(monkeypatch):
    def generous(effect, equal, p_holm, wins, rules):
        return "better" if effect.low > 0.0 else "inconclusive"

    monkeypatch.setattr("betahead.compare.verdict._verdict", generous)
    itself, known = against_itself(4), planted(3)
    assert itself.any_better > 0.05 * itself.replays and itself.astray and known.astray
    assert known.said["slight", "quiet", "better"] == 6 and known.said["lottery", "quiet", "better"] >= 3


def test_differences_that_are_not_paired_lose_the_planted_effect(monkeypatch):
    from betahead.compare import judged

    def unpaired(finished, cell, test, metric):
        a, b = (judged.final_values(finished, cell, method, metric) for method in (test.a, test.b))
        return a - np.roll(b, 1, axis=0)

    monkeypatch.setattr(judged, "differences", unpaired)
    assert planted(3).said["planted", "parent", "better"] <= 2


def test_the_exact_world_is_worth_what_is_written_down():
    world = ExactWorld("exact/nested", [ExactMethod(name="plain"), ExactMethod(name="raised", gain=2.0, own=0.0)])
    given = [{"learning_rate": 10.0**-1.5, "beta": 0.1}, {"learning_rate": 10.0**-2.5, "beta": 0.1}]
    raised = worth(world, "raised", given, range(200), "test")
    np.testing.assert_allclose(raised[0] - raised[1], 10.0)
    difference = raised[0] - worth(world, "plain", given, range(200), "test")[0]
    assert difference.mean() == pytest.approx(2.0, abs=0.2) and difference.std() == pytest.approx(1.0, abs=0.15)
    with pytest.raises(ConfigError, match="`method` must be one of plain, raised, but is 'none' instead"):
        world.run("none", given, [0], split="test")


def test_a_run_of_the_exact_world_can_diverge_on_test_and_swing_on_dev():
    world = ExactWorld("exact/nested", [ExactMethod(name="fragile", own=0.0, diverges=True)], common=0.0, swing=100.0)
    given = [{"learning_rate": 10.0**-1.5, "beta": 0.1}, {"learning_rate": 10.0**-2.5, "beta": 0.1}]
    test = world.run("fragile", given, [4, 5], split="test")
    assert not test.finite.any() and (test.reward[:, :, 0] == 0).all()
    assert np.isnan(test.reward[:, :, -1]).all() and np.isfinite(test.reward[:, :, :-1]).all()
    assert (worth(world, "fragile", given, [4, 5], "test") <= 0).all()
    swung = worth(world, "fragile", given, [4, 5], "eval")
    np.testing.assert_allclose(swung, [[-150.0, 150.0], [-260.0, 240.0]])


def test_a_renamed_copy_of_fixed_beta_has_luck_of_its_own():
    world = _OwnSeeds(tabular_method_world("half_noise"))
    fixed, copy, later = (
        world.run(method, [{"learning_rate": 0.1, "beta": 0.1}], [seed], split="test").reward
        for method, seed in (("fixed", 3), ("renamed", 3), ("fixed", 3 + _OWN_SEEDS))
    )
    np.testing.assert_array_equal(copy, later)
    assert not np.array_equal(copy, fixed)
    assert verdict_on_copy("half_noise", 2, 8, seed=1) in {"inconclusive", "equivalent"}


def test_the_worlds_that_must_show_headroom_have_it_on_record():
    for world in MUST_WIN:
        assert min(*recorded_headroom(world, "oracle"), *recorded_headroom(world, "weight_oracle")) > 0.01
    # A KL that fixed β does not reach has none.
    assert recorded_headroom("separate_prompts", "oracle")[-1] == 0.0
    assert CONDITIONS == ("interval", "effect", "p", "wins")
