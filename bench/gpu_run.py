"""One run of one arm on a GPU in a process of its own: `python -m bench.gpu_run REQUEST`."""

import json
import math
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.arms import ARMS, Arm
from bench.batches import Row
from bench.geometries import Geometry, named
from bench.kernels_seen import kernels_seen
from bench.low_rank import ALPHA, RANK, with_low_rank
from bench.prepare import fresh_model
from bench.records import check_same_rows, counted, peak_bytes, walked
from bench.stand_ins import fill_in, missing
from bench.unavailable import UnavailableError

PARITY_PAIRS = 4
TRAINER_NEEDS = ("accelerate", "datasets", "peft", "jaxtyping")


def policy_of(geometry: Geometry, device: str, dtype: torch.dtype) -> Any:
    """The geometry's model, made on the device from its seed."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return fresh_model(geometry.shape)
    finally:
        torch.set_default_dtype(usual)


def memory(device: str, bare: int) -> dict[str, int]:
    """Peak memory: what the allocator gave out and what it held on a GPU, the resident size on a CPU."""
    if device == "cuda":
        return {"peak_bytes": torch.cuda.max_memory_allocated(), "reserved_bytes": torch.cuda.max_memory_reserved()}
    return {"peak_bytes": peak_bytes() - bare}


def by_trainer(arm: Arm, geometry: Geometry, batches: list[list[Row]], device: str) -> dict[str, Any]:
    """The arm by its library's `DPOTrainer`."""
    from peft import LoraConfig

    from bench.trainers import Job, OneOff, StepClock, trainer_for

    adapter = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = [row for batch in batches for row in batch]
    dtype = getattr(torch, geometry.dtype)
    second = arm.live_reference and not geometry.adapter
    record, clock = OneOff(), StepClock()
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(
            arm=arm,
            rows=rows,
            policy=policy_of(geometry, device, dtype),
            reference=policy_of(geometry, device, dtype) if second else None,
            folder=Path(scratch),
            pairs_per_step=len(batches[0]),
            peft_config=adapter if geometry.adapter else None,
            changes={"use_cpu": device == "cpu", "bf16": dtype == torch.bfloat16},
        )
        trainer = trainer_for(job, record)
        check_same_rows(trainer, rows)
        trainer.add_callback(clock)
        trainer.train()
    return {
        "driver": "DPOTrainer",
        "moments": clock.moments,
        "first_loss": record.losses[0],
        "reference_seconds": 0.0 if arm.live_reference else record.seconds["reference"],
        "calibration_seconds": record.seconds.get("calibration", 0.0),
        "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
    }


def by_loop(arm: Arm, geometry: Geometry, batches: list[list[Row]], device: str) -> dict[str, Any]:
    """One of our arms by a plain loop: the engine without what `DPOTrainer` needs beside it."""
    from bench.loop import train

    policy = policy_of(geometry, device, getattr(torch, geometry.dtype))
    if geometry.adapter:
        policy = with_low_rank(policy)
    found = train(arm, batches, policy, device)
    return {
        "driver": "plain loop",
        "moments": found.moments,
        "first_loss": found.losses[0],
        "reference_seconds": found.reference_seconds,
        "calibration_seconds": 0.0,
        "trained": sum(p.numel() for p in policy.parameters() if p.requires_grad),
    }


def measure(request: dict[str, Any], filled: list[str]) -> dict[str, Any]:
    """Train and return every raw number.

    Raises:
        UnavailableError: a package, a road or memory is missing.
    """
    torch.set_num_threads(request["threads"])
    arm, geometry, device = ARMS[request["arm"]], named(request["geometry"]), request["device"]
    lacking = [name for name in TRAINER_NEEDS if name in filled or missing(name)]
    if arm.library == "trl" and (lacking or missing("trl")):
        raise UnavailableError(f"not installed: {', '.join([*lacking, *(['trl'] if missing('trl') else [])])}")
    batches: list[list[Row]] = json.loads((Path(request["folder"]) / "rows.json").read_text())["batches"][arm.order]
    bare = peak_bytes()
    # Whoever does not run our shared road need not load it.
    watching = kernels_seen() if arm.forward == "shared" else nullcontext(set[str]())
    try:
        with watching as kernels:
            found = (by_loop if lacking else by_trainer)(arm, geometry, batches, device)
    except Exception as error:
        # Our trainer makes a sentence of it, which names what it came from.
        if not isinstance(error, torch.OutOfMemoryError) and not isinstance(error.__cause__, torch.OutOfMemoryError):
            raise
        raise UnavailableError(f"out of memory ({geometry.title})") from error
    assert abs(found["first_loss"] - math.log(2)) < 0.05, f"the first loss is {found['first_loss']}, not log 2"
    return {
        **{name: value for name, value in found.items() if name != "moments"},
        "lacking": lacking,
        "kernels": sorted(kernels),
        "step_seconds": counted(found["moments"], len(batches), arm.passes),
        **walked(batches, arm.passes),
        "rows": sum(map(len, batches)),
        **memory(device, bare),
    }


def roads_apart(request: dict[str, Any]) -> dict[str, Any]:
    """Shared against separate, in float32 and in the geometry's dtype."""
    from bench.parity import parity

    geometry, device = named(request["geometry"]), request["device"]
    rows = json.loads((Path(request["folder"]) / "rows.json").read_text())["batches"]["random"][0][:PARITY_PAIRS]

    def in_(dtype: str) -> dict[str, Any]:
        try:
            policy: nn.Module = policy_of(geometry, device, getattr(torch, dtype))
            return parity(with_low_rank(policy) if geometry.adapter else policy, rows, device)
        except torch.OutOfMemoryError:
            return {"unavailable": f"out of memory ({geometry.title})"}

    return {dtype: in_(dtype) for dtype in ("float32", geometry.dtype)}


def main(request: dict[str, Any]) -> None:
    """Measure and write the result, or why the arm cannot run here."""
    filled = fill_in()
    try:
        found = roads_apart(request) if request["arm"] == "parity" else measure(request, filled)
    except UnavailableError as error:
        found = {"unavailable": str(error)}
    Path(request["result"]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
