"""A run on two ranks leaves the folder that one process leaves, written once."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_run
import torch
import yaml
from accelerate import PartialState
from rich.console import Console
from together import DDP, ROOT, Ranks, free_port, fsdp2
from torch import Tensor
from transformers import AutoModelForCausalLM

from betahead.runs.config import load_config
from betahead.runs.folder import RunFolder
from betahead.runs.training import train_run
from betahead.train.snapshots import MARKS

WRAPPERS = {"ddp": DDP, "fsdp2": fsdp2()}
LARGEST, MEAN = 2e-5, 5e-6
"""Of the residuals in float32, over the columns of metrics.jsonl and of the snapshots."""


def text_of(folder: Path, name: str, batch: int) -> str:
    """The configuration of a run of six steps of four pairs."""
    train = {
        "max_steps": 6,
        "per_device_train_batch_size": batch,
        "learning_rate": 5e-3,
        "optim": "sgd",
        "use_cpu": True,
        "logging_steps": 2,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "per_device_eval_batch_size": batch,
        "save_strategy": "steps",
        "save_steps": 3,
        "ddp_find_unused_parameters": False,
    }
    return yaml.safe_dump(
        {
            "model": {"name": str(folder / "model"), "dtype": "float32"},
            "data": {"train": str(folder / "pairs.jsonl"), "holdout": 0.4, "max_length": 96},
            "beta": {"kind": "learned", "learning_rate": 0.05},
            "reference": {"cache": str(folder / f"cache-{name}")},
            "train": train,
            "evaluate": {"prompts": 64, "samples": 2, "max_new_tokens": 4},
            "output": str(folder / name),
        }
    )


def run_of(folder: str, name: str, batch: int) -> dict[str, Tensor]:
    """The run of a rank, or of one process."""
    made = train_run(load_config(text_of(Path(folder), name, batch), []), Console(quiet=True), command=["betahead"])
    return {"summary": torch.tensor(len(made.summary))}


def late_run_of(folder: str, name: str, batch: int) -> dict[str, Tensor]:
    """The same, of a rank that begins when the first one would long have made its folder, and need not wait for it."""
    PartialState(cpu=True)
    if os.environ["RANK"] != "0":
        time.sleep(5.0)
    return run_of(folder, name, batch)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, model, and the run of one process."""
    folder = tmp_path_factory.mktemp("runs")
    tiny_run.write_rows(folder / "pairs.jsonl", tiny_run.pair_rows())
    tiny_run.write_model(folder / "model")
    run_of(str(folder), "alone", 4)
    return folder


def rows_of(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]


def assert_same_run(found: RunFolder, wanted: RunFolder) -> None:
    """The two folders hold the same numbers and the same files."""
    assert found.finished
    names = [{path.relative_to(run.path).as_posix() for path in run.path.glob("*")} for run in (found, wanted)]
    assert names[0] == names[1]
    rows, others = rows_of(found), rows_of(wanted)
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    timed = ("runtime", "per_second", "flos", "total_flos")
    # In the first step policy and reference are one: margins are errors of rounding, and so are their signs.
    for run in (rows, others):
        run[0].pop("rewards/accuracies")
    differences = [
        row[name] - other[name]
        for row, other in zip(rows, others, strict=True)
        for name in other
        if not name.endswith(timed)
    ]
    assert [row.keys() for row in rows] == [row.keys() for row in others]
    assert max(map(abs, differences)) <= LARGEST and abs(sum(differences) / len(differences)) <= MEAN
    table, other = (pq.read_table(run.prompts) for run in (found, wanted))
    assert sorted(set(table["progress"].to_pylist())) == list(MARKS)
    # A margin is a difference of sums over tokens, a hundred nats each, which float32 knows to 8e-6.
    for name, most in (("log_ppl", LARGEST), ("f", LARGEST), ("beta", LARGEST), ("margin", 1e-4)):
        for one, two in zip(table[name].to_pylist(), other[name].to_pylist(), strict=True):
            assert one == pytest.approx(two, abs=most)
    assert found.samples.read_text(encoding="utf-8") == wanted.samples.read_text(encoding="utf-8")
    policies = [AutoModelForCausalLM.from_pretrained(run.policy).state_dict() for run in (found, wanted)]
    for name, value in policies[1].items():
        torch.testing.assert_close(policies[0][name], value, rtol=0.0, atol=LARGEST)


@pytest.mark.parametrize("wrapper", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"])
def test_two_ranks_leave_the_folder_of_one_process(wrapper: str, given: Path, two_ranks: Ranks) -> None:
    ranks = two_ranks.run(run_of, str(given), wrapper, 2, environment=WRAPPERS[wrapper])
    assert ranks[0]["summary"] > 0 and ranks[1]["summary"] == 0
    assert_same_run(RunFolder(given / wrapper), RunFolder(given / "alone"))


def test_a_rank_that_begins_late_does_not_take_the_folder_of_the_first_for_another_run(
    given: Path, two_ranks: Ranks
) -> None:
    ranks = two_ranks.run(late_run_of, str(given), "late", 2, environment=WRAPPERS["ddp"])
    assert ranks[0]["summary"] > 0 and ranks[1]["summary"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_command_of_the_readme_trains_on_two_ranks(wrapper: str, given: Path) -> None:
    name = f"launched-{wrapper}"
    config = given / f"{name}.yaml"
    config.write_text(text_of(given, name, 2), encoding="utf-8")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs/accelerate" / f"{wrapper}.yaml")]
    ends = ["--main_process_port", str(free_port()), "--num_cpu_threads_per_process", "1"]
    words = [sys.executable, *launch, *ends, "-m", "betahead", "train", str(config)]
    ran = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert_same_run(RunFolder(given / name), RunFolder(given / "alone"))
    assert ran.stdout.count("calibrated log PPL") == 1
