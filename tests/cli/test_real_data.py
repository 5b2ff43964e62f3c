"""The presets on real preference pairs: the short form in the suite, the full one on request."""

import json
import math
import os
import sys
from contextlib import suppress

import pyarrow.parquet as pq
import pytest

from betahead.cli.main import main

FOLDER = os.environ.get("BETAHEAD_DATA")
needs_data = pytest.mark.skipif(FOLDER is None, reason="BETAHEAD_DATA does not name the folder of real preference data")

SHORT = [
    "model.fit.tokens=12288",
    "model.fit.layers=2",
    "model.fit.hidden_size=48",
    "model.fit.intermediate_size=96",
    "model.fit.vocab_size=2048",
    "model.fit.row_tokens=256",
    "data.max_length=256",
    "data.max_pairs=48",
    "data.holdout=0.02",
    "data.max_dropped=0.5",
    "train.max_steps=6",
    "train.logging_steps=1",
    "evaluate.prompts=8",
    "evaluate.samples=1",
    "evaluate.max_new_tokens=8",
]


def betahead(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["betahead", *map(str, words)])
    with suppress(SystemExit):  # the command line ends so; `check` sees whether the run did
        main()


@needs_data
@pytest.mark.parametrize("preset", ["alpaca_small", "hh_small"])
def test_a_preset_trains_on_real_pairs_in_short_form(preset, tmp_path, monkeypatch):
    run = tmp_path / "run"
    betahead(monkeypatch, "train", preset, f"output={run}", f"reference.cache={tmp_path}/cache", *SHORT)
    check(run)
    losses = [row["loss"] for row in metrics(run) if "loss" in row]
    assert len(losses) == 6
    assert abs(losses[0] - 0.6931) < 0.02


@needs_data
def test_a_judges_certainty_is_the_offset_of_its_pair(tmp_path, monkeypatch):
    run = tmp_path / "run"
    rule = ["beta.kind=odpo", "beta.scale=linear"]
    betahead(monkeypatch, "train", "alpaca_small", f"output={run}", f"reference.cache={tmp_path}/cache", *SHORT, *rule)
    assert (run / "DONE").exists()
    losses = [row["loss"] for row in metrics(run) if "loss" in row]
    assert len(losses) == 6
    # The policy begins as its reference and at rate 0: log(1 + e^strength), of strengths in [0, 1] with mean 0.93.
    for loss in losses[:2]:
        assert 1.1 < loss < math.log1p(math.e), "the logarithm of a certainty would give less than log 2"


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("preset", ["alpaca_small", "hh_small"])
def test_a_preset_trains_on_real_pairs_within_its_budget_of_25_minutes(preset, tmp_path, monkeypatch):
    run = tmp_path / "run"
    betahead(monkeypatch, "train", preset, f"output={run}", f"reference.cache={tmp_path}/cache")
    assert check(run)["seconds"] < 25 * 60


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def check(run):
    assert (run / "DONE").exists()
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert 0 <= summary["held_out"]["rewards/accuracies"] <= 1
    assert summary["beta_end"]["min"] > 0
    assert summary["beta_start"]["max"] > summary["beta_start"]["min"], "log PPL differs between prompts, so β does"
    snapshots = pq.read_table(run / "prompts.parquet")
    assert set(snapshots["progress"].to_pylist()) == {0, 0.25, 0.5, 0.75, 1}
    return summary
