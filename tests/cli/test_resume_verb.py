"""`betahead train CONFIG --resume`: one run, however often it was stopped; and what it refuses to go on with."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import datasets
import pyarrow.parquet as pq
import pytest
import resumed
import tiny_run
from safetensors.torch import load_file

from betahead.runs.config import load_config
from betahead.runs.record import data_fingerprint
from betahead.train.whole import checkpoints_in

WORDS = ("train.max_steps=12", "train.logging_steps=2", "train.save_steps=3", "evaluate.max_new_tokens=2")


def rows(path):
    return [resumed.without_clock(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def interrupt_after(metrics, count, *numbers):
    """Send this process signals once the log has so many rows."""

    def wait():
        last = time.monotonic() + 60
        while time.monotonic() < last:
            if metrics.is_file() and metrics.read_bytes().count(b"\n") >= count:
                for number in numbers:
                    os.kill(os.getpid(), number)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def stopped(world, betahead):
    """A run that SIGTERM has stopped, and what it printed."""
    waiting = interrupt_after(world / "runs" / "one" / "metrics.jsonl", 2, signal.SIGTERM)
    code, out, err = betahead("train", "one.yaml", *WORDS)
    waiting.join()
    assert code == 0, err
    return world / "runs" / "one", out


def test_a_run_that_was_stopped_says_how_to_go_on_and_ends_as_if_it_had_not_been(world, betahead, stopped):
    run, out = stopped
    (line,) = [line for line in out.splitlines() if line.startswith("stopped")]
    step = int(
        re.fullmatch(
            r"stopped    after step (\d+), which has a checkpoint; `betahead train one\.yaml train\.max_steps=12 "
            r"train\.logging_steps=2 train\.save_steps=3 evaluate\.max_new_tokens=2 --resume` goes on",
            line,
        )[1]
    )
    assert 4 <= step < 12
    assert not (run / "DONE").exists()
    (run / "samples.jsonl").write_text('{"left": "over"}\n')
    (run / "checkpoints" / "_unfinished" / "checkpoint-99").mkdir(parents=True)

    code, out, err = betahead("train", "one.yaml", *WORDS, "--resume")
    assert code == 0, err
    assert f"resume     runs/one goes on after step {step}" in out
    assert sorted(path.name for path in (run / "checkpoints").iterdir())[0].startswith("checkpoint-")
    record = json.loads((run / "run.json").read_text())
    assert record["command"] == f"betahead train one.yaml {' '.join(WORDS)}"
    (noted,) = record["resumptions"]
    assert noted["after_step"] == step
    assert noted["half_written_checkpoints"] == ["checkpoint-99"]
    assert noted["command"].endswith("--resume")

    code, _, err = betahead("train", "one.yaml", *WORDS, "output=runs/whole")
    assert code == 0, err
    whole = world / "runs" / "whole"
    assert rows(run / "metrics.jsonl") == rows(whole / "metrics.jsonl")
    assert rows(run / "samples.jsonl") == rows(whole / "samples.jsonl")
    assert pq.read_table(run / "prompts.parquet").equals(pq.read_table(whole / "prompts.parquet"))
    for name in ("beta_head.safetensors", "policy/model.safetensors"):
        assert resumed.differences(load_file(run / name), load_file(whole / name)) == []
    mine, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (run, whole))
    assert mine.keys() == theirs.keys()
    assert mine["train"]["train_loss"] == theirs["train"]["train_loss"]
    assert mine["beta_end"] == theirs["beta_end"]

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, out, err = betahead("train", "one.yaml", *WORDS, "--resume")
    assert code == 0, err
    assert "resume     runs/one is finished; there is nothing to resume" in out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_second_signal_leaves_the_last_checkpoint_and_exit_code_130(world, betahead):
    waiting = interrupt_after(world / "runs" / "one" / "metrics.jsonl", 3, signal.SIGTERM, signal.SIGINT)
    code, out, _ = betahead("train", "one.yaml", *WORDS)
    waiting.join()
    assert code == 130
    assert "stopped    at once; `betahead train one.yaml" in out
    code, out, err = betahead("train", "one.yaml", *WORDS, "--resume")
    assert code == 0, err
    assert "resume     runs/one goes on after step " in out


def test_a_folder_that_holds_nothing_yet_is_begun(world, betahead):
    (world / "runs" / "one" / "checkpoints").mkdir(parents=True)
    (world / "runs" / "one" / "failures").mkdir()
    code, out, err = betahead("train", "one.yaml", "--resume")
    assert code == 0, err
    assert "resume     runs/one holds nothing yet; the run begins" in out
    assert "resumptions" not in json.loads((world / "runs" / "one" / "run.json").read_text())


def test_a_run_without_a_whole_checkpoint_begins_again(world, betahead, stopped):
    run, _ = stopped
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "manifest.json").unlink()
    code, out, err = betahead("train", "one.yaml", *WORDS, "--resume")
    assert code == 0, err
    named = [line for line in out.splitlines() if line.startswith("resume")]
    assert named[-1] == "resume     runs/one holds no whole checkpoint; the run begins again"
    assert "resume     checkpoint-3 is skipped, because it has no manifest.json, which is written last" in named
    assert [row["step"] for row in rows(run / "metrics.jsonl") if "loss" in row] == [2, 4, 6, 8, 10, 12]
    assert json.loads((run / "run.json").read_text())["resumptions"][0]["after_step"] == 0


def test_what_is_another_run_by_now_is_refused_with_what_differs(world, betahead, stopped):
    run, _ = stopped
    before = sorted(path.name for path in run.rglob("*"))
    code, _, err = betahead("train", "one.yaml", *WORDS, "train.learning_rate=0.002", "--resume")
    assert code == 2
    assert err == (
        "error: `train.learning_rate` must be 0.001 as in runs/one/config.yaml, to resume that run, but is 0.002 "
        "instead; change it back, or choose another `output`.\n"
    )
    code, _, err = betahead("train", "one.yaml", *WORDS, "data.max_pairs=5", "--resume")
    assert code == 2
    assert "`data.max_pairs` must be left out as in runs/one/config.yaml, to resume that run, but is 5 instead;" in err

    code, _, err = betahead("train", "one.yaml", *WORDS)
    assert code == 2
    assert "holds another run already; go on with it (`--resume`), choose another (`output=runs/NAME`)" in err

    was = data_fingerprint("pairs.jsonl")["sha256"][:12]
    tiny_run.write_rows(world / "pairs.jsonl", tiny_run.pair_rows()[:-2])
    now = data_fingerprint("pairs.jsonl")["sha256"][:12]
    code, _, err = betahead("train", "one.yaml", *WORDS, "--resume")
    assert code == 2
    assert err == (
        "error: `data.train` must hold what the run to resume began with, but pairs.jsonl has another content now "
        f"(sha256 {now}… instead of {was}…); restore it, or begin a new run in another `output`.\n"
    )
    assert sorted(path.name for path in run.rglob("*")) == before


def test_a_saved_data_set_with_other_rows_under_the_same_fingerprint_is_refused(world, betahead):
    def save(rows):
        made = datasets.Dataset.from_list(rows)
        made._fingerprint = "0123456789abcdef"
        shutil.rmtree(world / "saved", ignore_errors=True)
        made.save_to_disk(str(world / "saved"))

    save(tiny_run.pair_rows())
    code, _, err = betahead("train", "one.yaml", "data.train=saved")
    assert code == 0, err
    (world / "runs" / "one" / "DONE").unlink()
    was = data_fingerprint("saved")["sha256"][:12]
    rows = tiny_run.pair_rows()
    save([{**rows[0], "chosen": "Another answer."}, *rows[1:]])
    now = data_fingerprint("saved")["sha256"][:12]
    code, _, err = betahead("train", "one.yaml", "data.train=saved", "--resume")
    assert code == 2
    assert err == (
        "error: `data.train` must hold what the run to resume began with, but saved has other Arrow files now "
        f"(sha256 {now}… instead of {was}…); restore it, or begin a new run in another `output`.\n"
    )
    save(rows)
    code, _, err = betahead("train", "one.yaml", "data.train=saved", "--resume")
    assert code == 0, err


def test_a_folder_of_other_files_is_refused_and_left_alone(world, betahead):
    run = world / "runs" / "one"
    run.mkdir(parents=True)
    (run / "thesis.txt").write_text("years of work")
    code, _, err = betahead("train", "one.yaml", "--resume")
    assert code == 2
    assert err == (
        "error: `output` must be the folder of a run to resume, but runs/one holds other files instead; correct it "
        "(`output=runs/NAME`), or leave `--resume` out.\n"
    )
    assert (run / "thesis.txt").read_text() == "years of work"


def test_a_dry_run_has_nothing_to_resume(world, betahead):
    code, _, err = betahead("train", "one.yaml", "--dry-run", "--resume")
    assert code == 2
    assert "`--resume` must be left out with `--dry-run`" in err


def test_a_fitted_reference_is_kept_and_not_fitted_again(world, betahead):
    fit = "{kind: small, corpus: train, vocab_size: 300, hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, "
    fit += "intermediate_size: 16, tokens: 2000, row_tokens: 64}"
    text = (world / "one.yaml").read_text()
    (world / "fit.yaml").write_text(re.sub(r"model: .*", f"model: {{fit: {fit}}}", text))
    waiting = interrupt_after(world / "runs" / "one" / "metrics.jsonl", 2, signal.SIGTERM)
    assert betahead("train", "fit.yaml", *WORDS)[0] == 0
    waiting.join()
    kept = (world / "runs" / "one" / "reference" / "model.safetensors").stat()
    (world / "runs" / ".betahead-fit-one-left").mkdir()
    code, out, err = betahead("train", "fit.yaml", *WORDS, "--resume")
    assert code == 0, err
    assert "fitting" not in out
    assert "fitted on 96 documents" in out
    assert (world / "runs" / "one" / "reference" / "model.safetensors").stat().st_mtime_ns == kept.st_mtime_ns
    assert sorted(path.name for path in (world / "runs").iterdir()) == ["one"]
    assert json.loads((world / "runs" / "one" / "summary.json").read_text())["fit"]["documents"] == 96


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for a checkpoint or two; only root may make one."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def remounted(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def test_a_full_disk_and_one_that_cannot_be_written_are_one_sentence_and_the_run_goes_on_later(
    world, betahead, small_disk
):
    words = (*WORDS, f"output={small_disk / 'run'}", "reference.cache=./cache")
    code, _, err = betahead("train", "one.yaml", *words)
    assert code == 2
    checkpoints = small_disk / "run" / "checkpoints"
    last = checkpoints_in(checkpoints).last
    assert re.fullmatch(
        rf"error: `output_dir` must have room for checkpoints, but {checkpoints} took none at step \d+ "
        rf"\(No space left on device\); make room and resume from {last.name}\.\n",
        err,
    )
    assert not checkpoints_in(checkpoints).damaged
    assert not (checkpoints / "_unfinished").exists()

    remounted(small_disk, "ro")
    code, _, err = betahead("train", "one.yaml", *words, "--resume")
    assert code == 2
    assert err == (
        f"error: `output` must be writable until the run has ended, but {small_disk / 'run'} is not (Read-only file "
        "system); correct that, and go on with `--resume`.\n"
    )

    remounted(small_disk, "rw,size=64m")
    code, out, err = betahead("train", "one.yaml", *words, "--resume")
    assert code == 0, err
    assert f"goes on after step {last.name.removeprefix('checkpoint-')}" in out
    assert betahead("train", "one.yaml", *WORDS, "output=runs/whole", "reference.cache=./cache")[0] == 0
    assert rows(small_disk / "run" / "metrics.jsonl") == rows(world / "runs" / "whole" / "metrics.jsonl")


CHANGED = (
    *("train.max_batch_tokens=64", "train.gradient_checkpointing=true", "train.guards={kl: 20}"),
    *("train.on_warning=stop", "train.save_steps=5", "train.save_total_limit=9"),
)


def test_what_changes_no_pair_of_a_step_may_change_and_is_noted(world, betahead, stopped):
    run, _ = stopped
    code, out, err = betahead("train", "one.yaml", *WORDS, *CHANGED, "--resume")
    assert code == 0, err
    assert "resume     train.save_steps is 5 from here on, and was 3" in out
    assert "resume     train.max_batch_tokens is 64 from here on, and was left out" in out
    (noted,) = json.loads((run / "run.json").read_text())["resumptions"]
    assert noted["changed"] == {
        "train.max_batch_tokens": {"was": "left out", "now": "64"},
        "train.gradient_checkpointing": {"was": "left out", "now": "True"},
        "train.guards.kl": {"was": "left out", "now": "20"},
        "train.on_warning": {"was": "left out", "now": "'stop'"},
        "train.save_steps": {"was": "3", "now": "5"},
        "train.save_total_limit": {"was": "left out", "now": "9"},
    }
    assert load_config(run / "config.yaml").train["save_steps"] == 5
    assert (run / "checkpoints" / "checkpoint-10").is_dir(), "saved as often as is asked for now"
    code, out, err = betahead("train", "one.yaml", *WORDS, *CHANGED, "--resume")
    assert code == 0 and "is finished" in out, err
    # What changes the training itself makes another run of it.
    (run / "DONE").unlink()
    for word in ("train.learning_rate=0.002", "train.max_grad_norm=0.5", "train.logging_steps=1"):
        code, _, err = betahead("train", "one.yaml", *WORDS, *CHANGED, word, "--resume")
        assert code == 2 and f"`{word.partition('=')[0]}` must be " in err and "choose another `output`" in err
