from dataclasses import replace

import pytest
from bandit import PLAN, GaussianBandit, bandit_of

from betahead.compare.board import Board, Standing
from betahead.compare.forecast import duration, forecast, sentences
from betahead.compare.plan import load_plan
from betahead.compare.progress import time_left
from betahead.compare.resolved import resolve
from betahead.compare.work import worked_alone
from betahead.stats.power import equivalence_power, minimum_detectable_effect


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
    assert forecast(resolved_of()).basis == "measured on 16 runs of fixed in bandit/one"
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


def test_power_is_that_of_the_statistics():
    found = forecast(resolved_of())
    assert found.detectable_sds == pytest.approx(minimum_detectable_effect(1.0, 8))
    assert equivalence_power(0.01, found.sd_for_equivalent, 8) == pytest.approx(0.8, abs=1e-6)
    assert found.claims[0].better is None


def test_a_known_spread_says_which_verdicts_are_reachable():
    assert "NOT" not in "\n".join(sentences(forecast(resolved_of(PLAN + "sd: 0.001\n"))))
    lines = sentences(forecast(resolved_of(PLAN + "sd: 0.1\n")))
    assert lines[-1] == ("shifted against fixed, claim better, 1 test, better NOT reachable, equivalent NOT reachable")


def test_a_plan_whose_searches_are_all_one_is_told_whose_luck_counts_for_nothing():
    warning = "every search sees the whole pool, so its luck is in no interval and no p-value, and copies can differ;"
    several, one = (sentences(forecast(resolved_of(PLAN.replace("trials: 4", f"trials: {n}")))) for n in (7, 8))
    assert not any(line.startswith(warning) for line in several)
    assert sum(line.startswith(warning) for line in one) == 1


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
