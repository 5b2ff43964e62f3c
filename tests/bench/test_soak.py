"""The soak in short: a run that is killed ends as the one that was left alone."""

from pathlib import Path

import pytest

from bench.soak import report, soak


@pytest.mark.parametrize(("steps", "kills"), [(30, 2), pytest.param(120, 6, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_and_resumed_ends_as_if_nothing_had_been(steps: int, kills: int, tmp_path: Path) -> None:
    result = soak(tmp_path, steps=steps, kills=kills, save_steps=3, seed=0)
    assert result["equal"], result["different"]
    assert result["kills"] >= kills - 1, "the run can have ended first"
    assert len(result["resumed_after_steps"]) == result["kills"]
    assert "equal to the last bit" in report(result)
