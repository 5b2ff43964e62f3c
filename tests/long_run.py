"""A run that would not end by itself, on two ranks that a launcher starts, for whoever ends it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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


def wait_for_steps(run: Path, process: subprocess.Popen[str], rows: int = 1) -> None:
    """Until the run has logged so many rows."""
    until, metrics = time.monotonic() + 120, run / "metrics.jsonl"
    while not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= rows):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def launching(*words: str) -> list[str]:
    """The words of a launcher and of what it starts on two ranks."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs" / "accelerate" / "ddp.yaml")]
    port = ["--main_process_port", str(free_port()), "--num_cpu_threads_per_process", "1"]
    return [sys.executable, *launch, *port, "-m", "betahead", "train", *words]


@contextmanager
def launched(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The launcher, in a process group of its own; nothing of it is left behind."""
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    launcher = subprocess.Popen(words, env=environment, start_new_session=True, **pipes)
    try:
        yield launcher
    finally:
        ranks = ranks_of(launcher)
        launcher.kill()
        launcher.wait()
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)
        launcher.stdout.close()
        launcher.stderr.close()


def ranks_of(launcher: subprocess.Popen[str]) -> list[int]:
    """The processes that a launcher has started and not yet buried, the first rank first."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    with suppress(OSError):
        return [int(child) for child in children.read_text(encoding="utf-8").split()]
    return []
