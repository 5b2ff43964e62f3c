"""The soak in short: a run that is killed three times ends as the one that was left alone."""

from pathlib import Path

from bench.soak import report, soak


def test_a_run_that_is_killed_and_resumed_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    result = soak(tmp_path, steps=40, kills=3, save_steps=4, seed=0)
    assert result["equal"], result["different"]
    assert result["kills"] >= 2
    assert len(result["resumed_after_steps"]) == result["kills"]
    assert "equal to the last bit" in report(result)
