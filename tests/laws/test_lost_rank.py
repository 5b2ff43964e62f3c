"""A rank that is killed ends the run on the others, within a minute and with one sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_run
import yaml
from together import ROOT, free_port

CONFIG = {
    "data": {"holdout": 0.4, "max_length": 96},
    "beta": {"kind": "learned"},
    "train": {
        "max_steps": 100000,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "logging_steps": 1,
        "ddp_find_unused_parameters": False,
    },
    "evaluate": {"prompts": 4, "samples": 0, "max_new_tokens": 4},
}


def begun(folder: Path) -> Path:
    """A configuration of a run that would not end."""
    tiny_run.write_rows(folder / "pairs.jsonl", tiny_run.pair_rows())
    tiny_run.write_model(folder / "model")
    config = CONFIG | {
        "model": {"name": str(folder / "model"), "dtype": "float32"},
        "data": CONFIG["data"] | {"train": str(folder / "pairs.jsonl")},
        "output": str(folder / "run"),
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder / "run.yaml"


def wait_for_steps(run: Path, process: subprocess.Popen[str]) -> None:
    """Until the run has logged something."""
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_the_rank_that_is_left_says_so_and_stops(tmp_path: Path) -> None:
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
            [sys.executable, "-m", "betahead", "train", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in (0, 1)
    ]
    try:
        wait_for_steps(tmp_path / "run", ranks[0])
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
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs" / "accelerate" / "ddp.yaml")]
    words = [*launch, "--main_process_port", str(free_port()), "--num_cpu_threads_per_process", "1"]
    launcher = subprocess.Popen(
        [sys.executable, *words, "-m", "betahead", "train", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"},
    )
    try:
        wait_for_steps(tmp_path / "run", launcher)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="utf-8").split()
        assert len(children) == 2
        os.kill(int(children[1]), signal.SIGKILL)
        _, said = launcher.communicate(timeout=60)
    finally:
        launcher.kill()
        launcher.wait()
    assert launcher.returncode != 0
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    assert "SIGKILL" in said
