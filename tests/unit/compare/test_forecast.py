from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from bandit import PLAN, GaussianBandit, bandit_of

from betahead.compare.board import Board, Standing
from betahead.compare.forecast import duration, forecast, sentences
from betahead.compare.items import calls_of, first_item, pool_items
from betahead.compare.plan import load_plan
from betahead.compare.progress import time_left
from betahead.compare.reach import chance_of_better
from betahead.compare.resolved import resolve
from betahead.compare.rules import Rules
from betahead.compare.verdict import decide
from betahead.compare.work import worked_alone
from betahead.stats.power import minimum_detectable_effect


def resolved_of(text=PLAN):
    return resolve(load_plan(text), bandit_of)


def test_runs_are_counted_and_the_finals_are_an_upper_bound():
    resolved = resolved_of()
    found = forecast(resolved)
    assert found.pool_runs == 1 * 2 * 8 * 2
    assert found.final_runs == 2 * 8 * 2
    finished = worked_alone(resolved)
    assert sum(len(runs) for runs, _ in finished.finals.values()) <= found.final_runs


def test_the_time_of_a_run_is_measured_or_stated():
    assert forecast(resolved_of()).basis.startswith("measured on 16 runs of fixed in bandit/one, and one of every")
    stated = forecast(resolved_of(PLAN + "seconds_per_run: 3\n"))
    assert (stated.basis, stated.seconds) == ("stated in the plan", 3 * (stated.pool_runs + stated.final_runs))


def test_one_run_that_takes_long_is_enough_to_time_it():
    class Long(GaussianBandit):
        def run(self, method, configurations, seeds, *, split):
            return replace(super().run(method, configurations, seeds, split=split), seconds=7.0 * len(seeds))

    resolved = resolve(load_plan(PLAN), Long)
    found = forecast(resolved)
    assert (found.basis, found.seconds_per_run) == ("measured on 1 run of fixed in bandit/one", 7.0)
    assert len(resolved.worlds["bandit/one"].calls) == 1


def test_small_calls_dear_methods_and_dear_cells_are_in_the_time():
    """A call takes 0.1 s to begin and 0.01 s a run; a method that takes twice as long does so everywhere."""

    class Slow(GaussianBandit):
        dearer: ClassVar[dict[str, float]] = {}

        def run(self, method, configurations, seeds, *, split):
            seconds = self.dearer.get(method, 1.0) * (0.1 + 0.01 * len(configurations) * len(seeds))
            return replace(super().run(method, configurations, seeds, split=split), seconds=seconds)

    resolved = resolve(load_plan(PLAN), Slow)
    pool, finals = pool_items(resolved), forecast(resolved).final_runs
    items = sum(len(calls_of(item.runs)) for item in pool)
    expected = 0.1 * (items + 2 * 8) + 0.01 * (sum(len(item.runs) for item in pool) + finals)
    assert forecast(resolved).seconds == pytest.approx(expected)
    Slow.dearer = {list(resolved.plan.methods)[1]: 3.0}
    assert forecast(resolved).seconds == pytest.approx(2 * expected)


def test_power_is_that_of_the_statistics():
    found = forecast(resolved_of())
    assert found.detectable_sds == pytest.approx(minimum_detectable_effect(1.0, 8))
    rules = Rules(rope=0.01, replicates=400)
    drawn = np.random.default_rng(4).normal(0.0, found.sd_for_equivalent, size=(300, 8))
    verdicts = [decide([[one[:, None]]], rules)[0][0].verdict for one in drawn]
    assert np.mean([verdict == "equivalent" for verdict in verdicts]) == pytest.approx(0.8, abs=0.06)
    assert found.claims[0].chances == ()


def test_a_known_spread_says_how_likely_each_verdict_is():
    assert "NOT" not in "\n".join(sentences(forecast(resolved_of(PLAN + "sd: 0.001\n"))))
    lines = sentences(forecast(resolved_of(PLAN + "sd: 0.001\nsd_largest: 0.1\n")))
    assert lines[-1] == (
        "shifted against fixed, claim better, 1 test; at an SD of 0.001 better in 100% and equivalent in 100%; at an "
        "SD of 0.1 better in 7% (NOT reachable) and equivalent in 0% (NOT reachable)"
    )
    assert any(line.startswith("assumed of chances: differences are normal and independent") for line in lines)


def test_the_chance_of_better_is_that_of_the_whole_verdict():
    rules = Rules(rope=0.1, replicates=300)
    chance = chance_of_better(0.25, 12, rules, family=3)
    drawn = np.random.default_rng(5).normal(0.2, 0.25, size=(250, 12))
    nothing = [np.zeros((12, 1))] * 2
    found = [decide([[one[:, None], *nothing]], rules)[0][0].verdict == "better" for one in drawn]
    assert chance == pytest.approx(np.mean(found), abs=0.06)


def test_a_mechanism_needs_all_of_its_tests_and_so_is_less_likely():
    text = PLAN.replace("  fixed: {}", "  fixed: {}\n  copy: {}\n  'permuted:shifted': {}") + "sd: 0.02\n"
    better, shown = (
        forecast(resolved_of(text.replace("b: fixed}", f"b: copy, claim: {claim}}}"))).claims[0]
        for claim in ("better", "mechanism")
    )
    assert (better.tests, shown.tests) == (1, 3)
    # Its family is larger too.
    assert shown.chances[0].found <= better.chances[0].found ** 3 + 1e-9


def test_the_forecast_says_what_the_family_is():
    found = forecast(resolved_of())
    assert found.family == "the family that Holm corrects: 1 p-values, over tests × cells (1 × 1)"
    assert found.family in sentences(found)


def test_the_piece_that_is_timed_is_cut_from_the_pool_without_listing_it():
    resolved = resolved_of()
    assert first_item(resolved, 1).runs == pool_items(resolved)[0].runs[:1]
    assert first_item(resolved, 16).runs == pool_items(resolved)[0].runs[:16]
    assert first_item(resolved, 99).runs == pool_items(resolved)[0].runs


def test_a_plan_is_told_whose_luck_counts_for_nothing():
    def said(configurations, trials):
        pool = f"configurations: {configurations}, trials: {trials}"
        return sentences(forecast(resolved_of(PLAN.replace("configurations: 8, trials: 4", pool))))

    assert (
        "every final has a search of its own, which no other shares a point with: intervals and p-values are for other "
        "configurations, seeds and prompts"
    ) in said(32, 4)
    assert (
        "searches overlap: intervals and p-values are for this pool of configurations only, and another pool may turn "
        "a verdict; at least 32 `pool.configurations` (trials × finals) mend it"
    ) in said(31, 4)
    assert (
        "every search sees the whole pool: intervals and p-values are for this one search only, its luck is in none, "
        "and copies can differ; at least 64 `pool.configurations` (trials × finals) mend it"
    ) in said(8, 8)


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12240, "3.4 h")])
def test_a_duration_is_said_as_people_say_it(seconds, text):
    assert duration(seconds) == text


def test_the_time_left_follows_from_what_is_done_and_who_works():
    resolved = resolved_of()
    assert time_left(resolved, Standing(done=0, up=32, running=1, seconds=0.0)).sentence == ""
    one = time_left(resolved, Standing(done=16, up=32, running=1, seconds=160.0))
    assert (one.runs_in_all, one.sentence) == (64, "about 8 min left")
    assert time_left(resolved, Standing(done=16, up=32, running=4, seconds=160.0)).sentence == "about 2 min left"
    assert time_left(resolved, Standing(done=40, up=50, running=1, seconds=400.0)).runs_in_all == 50


def test_the_standing_of_a_board_reaches_the_screen(tmp_path):
    resolved = resolved_of()
    with Board(resolved, f"sqlite:///{tmp_path / 'work.db'}") as board:
        assert time_left(resolved, board.standing()).runs_in_all == 64
