"""A rank that is killed ends the run on the others, within a minute and with one sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from long_run import begun, launched, launching, ranks_of, wait_for_steps
from together import free_port

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}
# Three steps, and answers that take seconds: the row after those of the steps and of `train` is that of the evaluation.
ANSWERING = ["train.max_steps=3", "evaluate.samples=2", "evaluate.max_new_tokens=400"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "words", "rows"), [({}, [], 1), (FSDP, ANSWERING, 5)], ids=["in a step", "while it answers"]
)
def test_the_rank_that_is_left_says_so_and_stops(
    environment: dict[str, str], words: list[str], rows: int, tmp_path: Path
) -> None:
    config, port = begun(tmp_path), free_port()
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "betahead", "train", str(config), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | shared | environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    try:
        wait_for_steps(tmp_path / "run", ranks[0], rows)
        ranks[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, said = ranks[0].communicate(timeout=60)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
            rank.stdout.close()
            rank.stderr.close()
    assert time.monotonic() - killed < 60
    assert ranks[0].returncode == 2
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: training on 2 ranks must keep all of them, but rank 0 has lost another one (")
    assert "Traceback" not in said


@pytest.mark.slow
def test_the_launcher_ends_all_ranks_when_one_is_killed(tmp_path: Path) -> None:
    config = begun(tmp_path)
    with launched(launching(str(config))) as launcher:
        wait_for_steps(tmp_path / "run", launcher)
        ranks = ranks_of(launcher)
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        _, said = launcher.communicate(timeout=60)
        assert launcher.returncode != 0
        assert not [rank for rank in ranks if Path(f"/proc/{rank}").exists()]
        assert "SIGKILL" in said
