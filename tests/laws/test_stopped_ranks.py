"""SIGTERM to a run on several ranks: all of them save the same step and end well, and the first says how to go on."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from long_run import begun, launched, launching, ranks_of, wait_for_steps

from betahead.train.whole import checkpoints_in

OWN = ["train", "a b.yaml", "seed=3"]
SAYS = "from betahead.runs.launched import how_to_go_on; print(how_to_go_on())"
# A launcher in short: it starts a rank with the words that it is told to pass on.
LAUNCHER = """
import json, os, subprocess, sys
environment = os.environ | {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}
words = [sys.executable, "-c", os.environ["SAYS"], *json.loads(os.environ["PASSED_ON"])]
sys.exit(subprocess.call(words, env=environment))
"""


def told_by_a_rank(*words: str, passed_on: list[str]) -> str:
    """What a rank would say, that a launcher with these words started with some of them."""
    environment = os.environ | {"SAYS": SAYS, "PASSED_ON": json.dumps(passed_on)}
    command = [sys.executable, "-c", LAUNCHER, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_rank_names_the_words_of_its_launcher_and_its_settings() -> None:
    said = told_by_a_rank("--config_file", "x.yaml", "-m", "betahead", *OWN, passed_on=OWN)
    command = re.fullmatch(r"`(.*)`\n", said, re.DOTALL)[1]
    words = shlex.split(command)
    assert words[-8:] == ["--config_file", "x.yaml", "-m", "betahead", *OWN, "--resume"]
    assert words[0] == sys.executable
    again = told_by_a_rank("-m", "betahead", *OWN, "--resume", passed_on=[*OWN, "--resume"])
    assert again.count("--resume") == 1


def test_secrets_in_the_words_of_a_launcher_are_blotted_out() -> None:
    said = told_by_a_rank("--hub_token", "hf_" + "a1B2" * 9, "-m", "betahead", *OWN, passed_on=OWN)
    assert "a1B2" not in said and "<redacted>" in said


def test_a_rank_whose_launcher_is_not_known_says_on_how_many_ranks_to_launch() -> None:
    said = told_by_a_rank("a shell", passed_on=OWN)
    assert said == "`betahead train 'a b.yaml' seed=3 --resume`, launched on 2 ranks as before,\n"


# What is told to stop, and what the launcher makes of it: what it has heard itself ends in an error of its own.
ADDRESSEES = {"the first rank": 0, "another rank": 0, "all ranks": 0, "the launcher": 1, "launcher and ranks": 1}


@pytest.mark.slow
@pytest.mark.parametrize("addressee", ADDRESSEES)
def test_sigterm_has_all_ranks_save_the_same_step_and_end_well(addressee: str, tmp_path: Path) -> None:
    words = launching(str(begun(tmp_path)))
    with launched(words) as launcher:
        wait_for_steps(tmp_path / "run", launcher, rows=3)
        ranks = ranks_of(launcher)
        assert len(ranks) == 2
        told = {
            "the first rank": ranks[:1],
            "another rank": ranks[1:],
            "all ranks": ranks,
            "the launcher": [launcher.pid],
            "launcher and ranks": [*ranks, launcher.pid],
        }
        for process in told[addressee]:
            os.kill(process, signal.SIGTERM)
        began = time.monotonic()
        out, err = launcher.communicate(timeout=60)
        assert time.monotonic() - began < 30, "the launcher has lost its patience"
        assert launcher.returncode == ADDRESSEES[addressee], err
        assert not [rank for rank in ranks if Path(f"/proc/{rank}").exists()]
    (line,) = [line for line in out.splitlines() if line.startswith("stopped")]
    found = re.fullmatch(r"stopped    after step (\d+), which has a checkpoint; `(.*)` goes on", line)
    assert shlex.split(found[2]) == [*words, "--resume"]
    last = checkpoints_in(tmp_path / "run" / "checkpoints").last
    assert last.name == f"checkpoint-{found[1]}"
    assert {"rank-0.safetensors", "rank-1.safetensors"} <= {path.name for path in last.iterdir()}

    again = shlex.split(found[2])
    with launched([*again[:-1], f"train.save_steps={int(found[1]) + 2}", "--resume"]) as launcher:
        wait_for_steps(tmp_path / "run", launcher, rows=int(found[1]) + 3)
        os.kill(ranks_of(launcher)[0], signal.SIGTERM)
        out, err = launcher.communicate(timeout=60)
        assert launcher.returncode == 0, err
    assert f"goes on after step {found[1]}" in out
