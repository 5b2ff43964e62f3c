"""Two processes on one comparison, one of them killed at work: nothing is lost, nothing counts twice."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from bandit import PLAN, bandit_of
from optuna.trial import TrialState

from betahead.compare.board import Board
from betahead.compare.items import pool_items
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.compare.work import work, worked_alone

TESTS = Path(__file__).parents[2]


def start(url, log, seconds):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, str(TESTS / "compare_worker.py"), url, str(log), seconds], env=environment)


def lines(log):
    return log.read_text().splitlines() if log.exists() else []


def finish_with_one_killed(url, tmp_path):
    """The killed one is at work for good when it is killed; the other then does all of the rest, this process too."""
    resolved = resolve(load_plan(PLAN + "runs_per_item: 4\n"), bandit_of)
    killed_log, other_log = tmp_path / "killed.log", tmp_path / "other.log"
    killed = start(url, killed_log, "600")
    deadline = time.monotonic() + 120
    while not lines(killed_log):
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.05)
    other = start(url, other_log, "0.02")
    while not lines(other_log):
        assert time.monotonic() < deadline and other.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert other.wait(timeout=120) == 0
    with Board(resolved, url, grace=2) as board:
        finished = work(board)
        trials = board._study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in trials)
    assert states.keys() == {TrialState.COMPLETE, TrialState.FAIL}
    assert states[TrialState.FAIL] == 1
    complete = Counter(trial.user_attrs["id"] for trial in trials if trial.state == TrialState.COMPLETE)
    assert set(complete.values()) == {1}
    assert {item.id for item in pool_items(resolved)} <= complete.keys()
    # The item that was lost was run by the other; none was run twice by those that lived.
    assert len(lines(killed_log)) == 1
    assert set(Counter(lines(other_log)).values()) == {1} and lines(killed_log)[0] in lines(other_log)
    alone = worked_alone(resolved)
    for key, (runs, scores) in alone.finals.items():
        assert finished.finals[key][0] == runs
        np.testing.assert_array_equal(finished.finals[key][1].path, scores.path)


def test_two_workers_on_sqlite_finish_a_plan_when_one_is_killed(tmp_path):
    url = f"sqlite:///{tmp_path / 'work.db'}"
    Board(resolve(load_plan(PLAN + "runs_per_item: 4\n"), bandit_of), url).close()
    finish_with_one_killed(url, tmp_path)


def binaries():
    """Where Debian puts PostgreSQL, newest first, or None."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: -int(path.parents[1].name))
    return found[0].parent if found else None


@pytest.fixture
def postgres(tmp_path_factory):
    """A private PostgreSQL on a socket in a folder of its own; it refuses to run as root, so `postgres` may run it."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("pg")
    prefix = []
    if os.geteuid() == 0:
        runuser = shutil.which("runuser")
        if runuser is None or subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode != 0:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user `postgres` to run it")
        # The folders of pytest are closed to others.
        folder = Path("/tmp") / f"betahead-pg-{os.getpid()}"
        folder.mkdir(mode=0o755)
        shutil.chown(folder, "postgres")
        prefix = [runuser, "-u", "postgres", "--"]
    data = folder / "data"

    def run(program, *words):
        command = [*prefix, programs / program, "-D", data, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=120)

    run("initdb", "-U", "postgres", "-A", "trust", "--no-sync")
    options = f"-c listen_addresses='' -c fsync=off -k {folder}"
    run("pg_ctl", "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql://postgres@/postgres?host={folder}"
    run("pg_ctl", "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


def test_two_workers_on_postgresql_finish_a_plan_when_one_is_killed(postgres, tmp_path):
    Board(resolve(load_plan(PLAN + "runs_per_item: 4\n"), bandit_of), postgres).close()
    finish_with_one_killed(postgres, tmp_path)
