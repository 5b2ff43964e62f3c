"""`betahead compare` as a person and as a program call it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from betahead.cli.compare import compare
from betahead.compare.self_test import Size
from betahead.errors import ConfigError

ROOT = Path(__file__).parents[2]
PLAN = """\
name: tiny
question: Is a renamed copy better, and are clean labels?
cells: [tabular/half_noise]
methods: {fixed: {}, renamed: {}, clean_labels: {}}
axes:
  learning_rate: {low: 0.02, high: 0.1}
  beta: {low: 0.1, high: 0.3}
pool: {configurations: 2, trials: 2, seeds: 1}
finals: {seeds: 8}
rope: 0.01
comparisons:
  - {a: renamed, b: fixed}
  - {a: clean_labels, b: fixed, claim: bound}
"""


def betahead(*words, cwd):
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "betahead", "compare", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    (folder / "tiny.yaml").write_text(PLAN)
    return folder


@pytest.fixture(scope="module")
def done(place):
    return betahead("tiny.yaml", "--workers", "2", cwd=place)


def test_a_comparison_prints_verdicts_and_leaves_its_evidence(place, done):
    assert done.returncode == 0, done.stderr
    where = "on 1 of 1 cell, for this one search only."
    assert f"renamed against fixed: equivalent {where}" in done.stdout
    assert f"clean_labels (which reads the truth) against fixed: better {where}" in done.stdout
    folder = place / "comparisons" / "tiny"
    evidence = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
    assert evidence["plan_hash"] in done.stdout
    assert evidence["command"] == "betahead compare tiny.yaml --workers 2"
    assert (folder / "evidence.md").read_text(encoding="utf-8").startswith("# tiny\n")


def test_a_finished_comparison_is_shown_again_without_work(place, done):
    (place / "comparisons" / "tiny" / "work.db").unlink()
    again = betahead("tiny.yaml", cwd=place)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert not (place / "comparisons" / "tiny" / "work.db").exists()
    as_json = betahead("tiny.yaml", "--json", cwd=place)
    assert json.loads(as_json.stdout)["claims"][0]["counts"] == {"equivalent": 1}


def test_a_changed_plan_is_refused_after_its_test_was_opened(place, done):
    (place / "changed.yaml").write_text(PLAN.replace("rope: 0.01", "rope: 0.02"))
    refused = betahead("changed.yaml", cwd=place)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: The plan tiny must stay as it is after its test was opened")


def in_process(*words):
    app = typer.Typer()
    app.command()(compare)
    return CliRunner(env={"NO_COLOR": "1"}).invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "PLAN must be given, but is missing; see configs/compare for plans to start from."),
        (
            ("tiny.yaml", "--self-test"),
            "PLAN must be left out with --self-test, but is tiny.yaml instead; it would have no effect.",
        ),
        (
            ("--self-test", "--worker"),
            "--worker must be left out with --self-test, but is given; it would have no effect.",
        ),
        (
            ("tiny.yaml", "--dry-run", "--workers", "2"),
            "--workers must be left out with --dry-run, but is 2 instead; it would have no effect.",
        ),
        (
            ("tiny.yaml", "--worker", "--storage", "sqlite:///work.db", "--output", "here"),
            "--output must be left out with --worker, but is here instead; it would have no effect.",
        ),
        (
            ("tiny.yaml", "--worker"),
            "--storage must be given with --worker, but is missing; it is the URL of the comparison.",
        ),
        (("none.yaml",), "none.yaml must be a configuration file in YAML, but does not exist."),
    ],
)
def test_a_wrong_call_is_one_sentence(words, sentence):
    error = in_process(*words).exception
    assert isinstance(error, ConfigError) and str(error) == sentence


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs" / "compare").glob("*.yaml")))
def test_every_plan_that_ships_can_reach_its_verdicts_in_under_forty_minutes_on_two_cores(name):
    done = in_process(ROOT / "configs" / "compare" / name, "--dry-run", "--json")
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout)
    assert found["smallest_p"] <= found["needed_p"]
    # Finals are an upper bound, and a busy machine measures too long a run: twice the budget is far above it.
    assert found["seconds"] / 2 < 2 * 40 * 60


def test_a_dry_run_says_what_it_costs_and_can_find_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(PLAN)
    shown = in_process("tiny.yaml", "--dry-run").stdout
    assert "54 runs at most: 6 of the pools, 48 finals" in shown
    found = json.loads(in_process("tiny.yaml", "--dry-run", "--json").stdout)
    assert (found["pool_runs"], found["finals"], found["tests_per_family"]) == (6, 8, 1)
    assert "without 1 of a method with the very same runs under another name" in shown
    assert found["plan_hash"] in shown
    assert not (tmp_path / "comparisons").exists()


def test_the_self_test_says_of_every_check_whether_it_holds(monkeypatch):
    small = Size(replays=1, finals=8, worlds=("half_noise",), configurations=1, copies=1)
    monkeypatch.setattr("betahead.compare.self_test.Size", lambda: small)
    shown = in_process("--self-test")
    *lines, last = shown.stdout.splitlines()
    assert {line.split("  ")[0] for line in lines} == {"holds", "FAILS"}, "one replay shows every condition nowhere"
    held = sum(line.startswith("holds  ") for line in lines)
    assert last.startswith(f"{held} of {len(lines)} checks hold, ") and shown.exit_code == 1
    checks = json.loads(in_process("--self-test", "--json").stdout)
    assert [check["passed"] for check in checks] == [line.startswith("holds") for line in lines]
