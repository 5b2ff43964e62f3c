"""One run of one arm in a process of its own: `python -m bench.measure REQUEST`. The parent reads the result file."""

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bench.arms import ARMS, Arm
from bench.batches import Row
from bench.records import check_same_rows, counted, peak_bytes, walked
from bench.trainers import Job, OneOff, StepClock, trainer_for
from bench.unavailable import UnavailableError


def import_library(arm: Arm) -> None:
    """Load what the arm needs, so that the bare process is one with its imports and nothing else."""
    if arm.library == "trl":
        from trl import DPOConfig, DPOTrainer
    else:
        from betahead import DPOConfig, DPOTrainer
    assert DPOConfig and DPOTrainer


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Train and return every raw number."""
    torch.set_num_threads(request["threads"])
    arm = ARMS[request["arm"]]
    import_library(arm)
    bare = peak_bytes()
    folder = Path(request["folder"])
    batches: list[list[Row]] = json.loads((folder / "rows.json").read_text())["batches"][arm.order]
    rows = [row for batch in batches for row in batch]
    record, clock = OneOff(), StepClock()
    with tempfile.TemporaryDirectory() as scratch:
        policy = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
        job = Job(arm=arm, rows=rows, policy=policy, folder=Path(scratch), pairs_per_step=len(batches[0]))
        trainer = trainer_for(job, record)
        check_same_rows(trainer, rows)
        trainer.add_callback(clock)
        trainer.train()
    assert arm.live_reference or record.seconds.get("reference", 0.0) > 0, "the reference's scoring was not seen"
    assert abs(record.losses[0] - math.log(2)) < 1e-4, f"the first loss is {record.losses[0]}, not log 2"
    weights = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return {
        "threads": torch.get_num_threads(),
        "step_seconds": counted(clock.moments, len(batches), arm.passes),
        **walked(batches, arm.passes),
        "first_loss": record.losses[0],
        "bare_bytes": bare,
        "peak_bytes": peak_bytes() - bare,
        # Weights, gradients and two moments, four bytes each.
        "state_bytes": 16 * weights,
        "rows": len(rows),
        "reference_seconds": record.seconds.get("reference", 0.0) if not arm.live_reference else 0.0,
        "calibration_seconds": record.seconds.get("calibration", 0.0),
    }


def main(request: dict[str, Any]) -> None:
    """Measure and write the result, or why the arm cannot run here."""
    try:
        found = measure(request)
    except UnavailableError as error:
        found = {"unavailable": str(error)}
    Path(request["result"]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
