"""What a run with workers for its data does when a signal reaches it and them, and when one of them is lost."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_run
from long_run import begun, launched, launching, ranks_of, wait_for_steps

from betahead.train.whole import checkpoints_in

WORKERS = ["train.dataloader_num_workers=2", "train.dataloader_persistent_workers=true"]


def alone(folder: Path, *words: str) -> list[str]:
    """The words of a run that would not end, in one process; its epochs are long, so that workers seldom begin."""
    config = begun(folder)
    tiny_run.write_rows(folder / "pairs.jsonl", tiny_run.pair_rows() * 20)
    return [sys.executable, "-m", "betahead", "train", str(config), *WORKERS, *words]


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    workers = ranks_of(process)
    assert len(workers) >= 2
    return workers


def running(workers: list[int]) -> list[int]:
    """Those that have neither ended nor wait to be buried."""

    def state(worker: int) -> str:
        try:
            return Path(f"/proc/{worker}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return "Z"

    return [worker for worker in workers if state(worker) != "Z"]


def wait_until_none_runs(workers: list[int]) -> None:
    until = time.monotonic() + 30
    while running(workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def assert_saved(run: Path, out: str) -> None:
    (line,) = [line for line in out.splitlines() if line.startswith("stopped")]
    step = re.match(r"stopped    after step (\d+), which has a checkpoint; `", line)[1]
    assert checkpoints_in(run / "checkpoints").last.name == f"checkpoint-{step}"


def test_sigterm_to_the_whole_group_saves_the_step_and_leaves_no_worker(tmp_path: Path) -> None:
    with launched(alone(tmp_path)) as process:
        wait_for_steps(tmp_path / "run", process, rows=2)
        workers = workers_of(process)
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert_saved(tmp_path / "run", out)
        wait_until_none_runs(workers)


@pytest.mark.slow
def test_sigterm_while_workers_of_an_evaluation_are_there_saves_the_step(tmp_path: Path) -> None:
    evaluating = ["train.eval_strategy=steps", "train.eval_steps=1"]
    with launched(alone(tmp_path, *evaluating)) as process:
        wait_for_steps(tmp_path / "run", process, rows=4)
        assert len(workers_of(process)) == 4
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert_saved(tmp_path / "run", out)


@pytest.mark.slow
def test_sigterm_to_the_whole_group_of_a_launcher_saves_the_step_on_all_ranks(tmp_path: Path) -> None:
    words = alone(tmp_path)[4:]
    with launched(launching(*words)) as launcher:
        wait_for_steps(tmp_path / "run", launcher, rows=2)
        ranks = ranks_of(launcher)
        os.killpg(launcher.pid, signal.SIGTERM)
        out, err = launcher.communicate(timeout=60)
        assert launcher.returncode == 1, err  # which is the launcher's own
        assert_saved(tmp_path / "run", out)
        assert running(ranks) == []
    last = checkpoints_in(tmp_path / "run" / "checkpoints").last
    assert {"rank-0.safetensors", "rank-1.safetensors"} <= {path.name for path in last.iterdir()}


@pytest.mark.slow
def test_workers_of_a_killed_run_end_too(tmp_path: Path) -> None:
    with launched(alone(tmp_path)) as process:
        wait_for_steps(tmp_path / "run", process)
        workers = workers_of(process)
        process.kill()
        process.wait()
        wait_until_none_runs(workers)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_sentence(tmp_path: Path) -> None:
    with launched(alone(tmp_path)) as process:
        wait_for_steps(tmp_path / "run", process)
        os.kill(workers_of(process)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.fullmatch(
        "error: `dataloader_num_workers` must be workers that stay as long as they are needed, but one of 2 is gone "
        r"\((killed by signal: Killed|exited unexpectedly)\); see what ended it \(a signal, too little memory\), and "
        "go on from the last checkpoint.",
        line,
    )
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_folder_that_is_deleted_while_the_run_goes_on_is_one_sentence(tmp_path: Path) -> None:
    with launched(alone(tmp_path)) as process:
        wait_for_steps(tmp_path / "run", process)
        shutil.move(tmp_path / "run", tmp_path / "elsewhere")
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == (
        f"error: `output` must stay where it is until the run has ended, but {tmp_path / 'run'} is gone; put it back "
        "and go on with `--resume`, or begin again."
    )
    assert "Traceback" not in err
