"""The toy study says what it is for: the command runs, and the known directions are in its rows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.toy_bandit import MODES, STARTS, bandit_rows
from bench.toy_rest import rest_rows

ROOT = Path(__file__).parents[2]


def test_short_bandits_show_inflation_switching_off_and_a_budget_that_is_kept():
    rows = {(row.mode, row.start): row for row in bandit_rows((1,), 1)}
    assert set(rows) == {(mode, start) for mode in MODES for start in STARTS}
    for start in STARTS:
        inflated = rows["joint, no prior", start]
        assert min(inflated.topics) > 1.2 * start
        assert inflated.turned < 0.9  # prompts whose label was turned round switch themselves off
        assert rows["perspective, linear", start].turned > 1.0
        assert rows["budget of 0.3 nats", start].kl == pytest.approx(0.3, rel=0.1)
        assert rows["fixed", start].topics == pytest.approx((start,) * 4)


@pytest.mark.slow
def test_with_longer_training_the_linear_perspective_drifts_to_its_bounds_and_the_quadratic_one_rests():
    rows = {(row.regulariser, row.length): row for row in rest_rows((1, 4, 16))}
    linear, quadratic = ([rows[name, length] for length in (1, 4, 16)] for name in ("linear", "quadratic"))
    assert linear[0].at_bound < 0.1 and linear[2].at_bound > 0.6
    assert linear[2].topics[3] > 2 * linear[1].topics[3] > 4 * linear[0].topics[3]
    assert quadratic[0].away > quadratic[1].away > 10 * quadratic[2].away
    assert quadratic[2].away < 0.01


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench.toy_study", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_command_prints_a_line_for_every_way_and_start():
    lines = run("--only", "bandit", "--lengths", "1", "--seeds", "1").splitlines()
    assert sum(line.startswith("| ") for line in lines) == 1 + len(MODES) * len(STARTS)


@pytest.mark.slow
def test_the_command_trains_a_language_model_detached_and_coupled():
    lines = run("--only", "language", "--steps", "2").splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")][1:] == ["detached", "coupled"]
