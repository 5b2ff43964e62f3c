"""A device that is full is a line of the results, and what was measured before a stop is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu_run, schedule
from bench.geometries import named
from bench.prepare import prepare
from bench.schedule import Measurements, Plan
from bench.unavailable import UnavailableError
from betahead.forward import roads

GEOMETRY = named("gpu-full-tiny")


def full(*arguments: Any, **keywords: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.6 GiB")


def test_a_full_device_in_our_arm_is_said_whichever_driver_met_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(GEOMETRY, GEOMETRY.steps, None, tmp_path / "g")
    request = {"arm": "plain", "geometry": GEOMETRY.name, "device": "cpu", "threads": 1, "folder": str(tmp_path / "g")}
    forward = roads.separate_forward

    def full_in_training(*arguments: Any, **keywords: Any) -> Any:
        return (full if torch.is_grad_enabled() else forward)(*arguments, **keywords)

    monkeypatch.setattr(roads, "separate_forward", full_in_training)
    for filled in ([], ["peft"]):  # by `DPOTrainer`, which makes a sentence of it, and by the plain loop
        with pytest.raises(UnavailableError, match=r"^out of memory "):
            gpu_run.measure(request, filled)


def test_any_other_error_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(GEOMETRY, GEOMETRY.steps, None, tmp_path / "g")
    request = {"arm": "plain", "geometry": GEOMETRY.name, "device": "cpu", "threads": 1, "folder": str(tmp_path / "g")}

    def broken(*arguments: Any, **keywords: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(gpu_run, "by_loop", broken)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        gpu_run.measure(request, ["peft"])


def test_what_was_measured_before_a_stop_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stops:
        """A child that measures one arm and is then stopped."""

        def __init__(self, scratch: Path, threads: int) -> None:
            self.scratch = scratch
            self.runs = 0

        def __call__(self, name: str, **request: Any) -> dict[str, Any]:
            if name == "prepare":
                Path(request["folder"]).mkdir()
                (Path(request["folder"]) / "rows.json").write_text('{"whole": {}, "batches": {}}')
                return {}
            self.runs += 1
            if self.runs > 1:
                raise KeyboardInterrupt
            return {"step_seconds": [1.0], "peak_bytes": 1}

    monkeypatch.setattr(schedule, "Child", Stops)
    part = tmp_path / "out" / "gpu.part.json"
    with pytest.raises(KeyboardInterrupt):
        Measurements(Plan(geometries=[GEOMETRY], threads=1, say=lambda _: None, part=part)).take()
    (run,) = json.loads(part.read_text())["runs"]
    assert (run["geometry"], run["arm"]) == (GEOMETRY.name, GEOMETRY.arms[0].name)
