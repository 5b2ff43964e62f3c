"""The commands in processes of their own, at tiny sizes: every number of the results file is there and adds up."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.spread import ratio

ROOT = Path(__file__).parents[2]
# A process in which these look as if they were not installed.
NOT_INSTALLED = """
import sys

for name in ("accelerate", "datasets", "jaxtyping", "peft", "trl"):
    sys.modules[name] = None
"""


def run(*words: str, path: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "BETAHEAD_DATA"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *([] if path is None else [str(path)])])
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_complete(results: dict[str, Any], geometry: str, arms: set[str]) -> None:
    described = results["geometries"][geometry]
    runs = [one for one in results["runs"] if one["geometry"] == geometry]
    assert {one["arm"] for one in runs} == arms
    for one in runs:
        passes = results["arms"][one["arm"]]["passes"]
        assert len(one["step_seconds"]) == len(one["step_pairs"]) == described["steps"] * passes
        assert min(one["step_seconds"]) > 0 and set(one["step_pairs"]) == {described["pairs_per_step"]}
        assert one["first_loss"] == pytest.approx(math.log(2), abs=0.05)
        assert one["peak_bytes"] > 0 and one["reference_seconds"] > 0
        assert one["rows"] == (described["steps"] + 1) * described["pairs_per_step"]
        order = results["arms"][one["arm"]]["order"]
        batches = results["lengths"][geometry][order]
        assert one["step_tokens"] == [sum(map(sum, batch)) for batch in batches] * passes
        share = results["roofline"][geometry][one["arm"]]
        seconds = sum(one["step_seconds"]) / len(one["step_seconds"])
        assert share["flops_a_second"] == pytest.approx(results["flops"][geometry][one["arm"]]["total"] / seconds)


def test_the_harness_measures_both_libraries_and_writes_every_number(tmp_path: Path) -> None:
    words = ["--quick", "--threads", "1", "--rate-seconds", "0.05", "--name", "made", "--out", str(tmp_path)]
    screen = run("bench", *words, "--arms", "trl-best", "plain")
    results = json.loads((tmp_path / "made.json").read_text())
    check_complete(results, "quick", {"trl-best", "plain"})
    found = ratio(results["runs"], "quick", "plain", "trl-best", "speed")
    by_arm = {one["arm"]: sum(one["step_pairs"]) / sum(one["step_seconds"]) for one in results["runs"]}
    assert found is not None and found["rounds"] == [by_arm["plain"] / by_arm["trl-best"]]
    assert {one["threads"] for one in results["runs"]} == {1}
    assert results["versions"]["trl"] == "1.16.0" and results["machine"]["cores"] >= 1
    text = (tmp_path / "made.json").read_text()
    assert str(tmp_path) not in text and os.uname().nodename not in text
    assert "| ours, plain road |" in screen


def test_the_parent_of_all_runs_loads_nothing_large(tmp_path: Path) -> None:
    # Linux starts the peak memory of a child at that of the process that it was made by.
    (tmp_path / "asked.py").write_text(
        "import sys, bench.__main__, bench.gpu\nprint({'torch', 'numpy'} & {*sys.modules})"
    )
    assert run("asked", path=tmp_path) == "set()\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_cuda_device_the_gpu_benchmark_says_so_and_ends_well(tmp_path: Path) -> None:
    assert run("bench.gpu", "--out", str(tmp_path)).startswith("No CUDA device here, so nothing was measured;")
    assert not list(tmp_path.iterdir())


def test_the_gpu_benchmark_needs_torch_and_transformers_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NOT_INSTALLED)
    words = ["--device", "cpu", "--tiny", "--minutes", "60", "--only", "gpu-lora-tiny"]
    words += ["--arms", "plain", "fixed", "trl-best"]
    screen = run("bench.gpu", *words, "--name", "made", "--out", str(tmp_path), path=tmp_path)
    results = json.loads((tmp_path / "made.json").read_text())
    check_complete(results, "gpu-lora-tiny", {"plain", "fixed"})
    for one in results["runs"]:
        assert one["driver"] == "plain loop"
        assert one["lacking"] == ["accelerate", "datasets", "peft", "jaxtyping"]
        assert one["kernels"] == (["sdpa"] if one["arm"] == "fixed" else [])
    unavailable = results["unavailable"]["gpu-lora-tiny"]["trl-best"]
    assert unavailable == "not installed: accelerate, datasets, peft, jaxtyping, trl"
    assert results["parity"].keys() == {"gpu-lora-tiny"}
    exact, half = (results["parity"]["gpu-lora-tiny"][dtype] for dtype in ("float32", "bfloat16"))
    assert exact["gradient"] < 1e-4 and "times" not in exact
    assert exact["kernels"] == half["kernels"] == ["sdpa"]
    assert max(half["times"].values()) <= 2
    assert half["errors"]["separate"]["gradient"] > 1e-4 > exact["gradient"]
    assert "bfloat16: loss" in screen and "Its error against float32 is" in screen


@pytest.mark.slow
def test_the_gpu_benchmark_drives_both_trainers_where_they_are_installed(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--tiny", "--minutes", "60", "--arms", "trl-best", "plain"]
    run("bench.gpu", *words, "--name", "made", "--out", str(tmp_path))
    results = json.loads((tmp_path / "made.json").read_text())
    for geometry in ("gpu-full-tiny", "gpu-lora-tiny"):
        check_complete(results, geometry, {"trl-best", "plain"})
    assert {one["driver"] for one in results["runs"]} == {"DPOTrainer"}
    trained = {(one["geometry"], one["arm"]): one["trained"] for one in results["runs"]}
    assert trained["gpu-lora-tiny", "plain"] == trained["gpu-lora-tiny", "trl-best"]
    assert trained["gpu-lora-tiny", "plain"] < trained["gpu-full-tiny", "plain"]
