"""Runs in turn, each in a process of its own: A B C A B C, so that what else the machine does hits all arms alike."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.arms import Arm
from bench.flops import Lengths
from bench.geometries import Geometry

Say = Callable[[str], None]
ROOT = Path(__file__).parents[1]


class Child:
    """Starts `python -m bench.NAME REQUEST` and reads what it leaves.

    This process imports nothing large: the peak memory that Linux tells a child of can start at its parent's.
    """

    def __init__(self, scratch: Path, threads: int) -> None:
        self.scratch = scratch
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(scratch / "cache"),
            "PYTHONWARNINGS": "ignore",
        }

    def __call__(self, name: str, **request: Any) -> dict[str, Any]:
        """Run it to its end and return its result.

        Raises:
            RuntimeError: it failed; the message ends with what it wrote last.
        """
        result = self.scratch / "result.json"
        result.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{name}", json.dumps({**request, "result": str(result)})],
            env=self.environment,
            cwd=self.scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"bench.{name} failed on {request}:\n{done.stderr[-3000:]}")
        return json.loads(result.read_text()) if result.exists() else {}


def measured(
    geometries: Sequence[Geometry], *, data: Path | None, threads: int, rate_seconds: float, say: Say
) -> dict[str, Any]:
    """All raw measurements of these geometries; those that share a key are interleaved.

    Returns:
        `runs`, `rates`, `unavailable` (arm to reason) and `lengths` (geometry, order: of each counted pair).
    """
    found: dict[str, Any] = {"runs": [], "rates": [], "unavailable": {}, "lengths": {}, "whole": {}}
    keys = dict.fromkeys(geometry.key for geometry in geometries)
    for key in keys:
        together = [geometry for geometry in geometries if geometry.key == key]
        with tempfile.TemporaryDirectory() as scratch:
            child = Child(Path(scratch), threads)
            for geometry in together:
                _prepare(child, geometry, data, found, say)
            for number in range(max(geometry.rounds for geometry in together)):
                for geometry in together:
                    if number < geometry.rounds:
                        _one_round(child, geometry, number, threads, rate_seconds, found, say)
    return found


def _prepare(child: Child, geometry: Geometry, data: Path | None, found: dict[str, Any], say: Say) -> None:
    say(f"{geometry.name}: pairs and model")
    folder = child.scratch / geometry.name
    request = {"geometry": geometry.name, "steps": geometry.steps, "folder": str(folder)}
    child("prepare", **request, data=None if data is None else str(data))
    rows = json.loads((folder / "rows.json").read_text())
    found["whole"][geometry.name] = rows["whole"]
    found["lengths"][geometry.name] = {
        order: [[_lengths(row) for row in batch] for batch in batches[1:]] for order, batches in rows["batches"].items()
    }


def _lengths(row: dict[str, list[int]]) -> Lengths:
    return Lengths(len(row["prompt_ids"]), len(row["chosen_ids"]), len(row["rejected_ids"]))


def _one_round(
    child: Child,
    geometry: Geometry,
    number: int,
    threads: int,
    rate_seconds: float,
    found: dict[str, Any],
    say: Say,
) -> None:
    for arm in _turns(geometry, found["unavailable"]):
        start = time.monotonic()
        request = {"arm": arm.name, "threads": threads, "folder": str(child.scratch / geometry.name)}
        result = child("measure", **request)
        where = {"geometry": geometry.name, "round": number, "arm": arm.name}
        if "unavailable" in result:
            found["unavailable"][arm.name] = result["unavailable"]
            say(f"{arm.title}: not measured, {result['unavailable']}")
            continue
        found["runs"].append(where | result)
        a_step = sum(result["step_seconds"]) / len(result["step_seconds"])
        say(
            f"{geometry.name} round {number + 1}: {arm.title}: {a_step:.2f} s a step, "
            f"{result['peak_bytes'] / 2**30:.2f} GiB ({time.monotonic() - start:.0f} s in all)"
        )
    lengths = [pair for batch in next(iter(found["lengths"][geometry.name].values())) for pair in batch]
    tokens = round(sum(pair.distinct for pair in lengths) / geometry.steps)
    scored = round(sum(pair.chosen + pair.rejected for pair in lengths) / geometry.steps)
    side = 2048 if geometry.shape.hidden >= 256 else 128
    request = {"geometry": geometry.name, "round": number, "tokens": tokens, "scored": scored, "side": side}
    found["rates"].append(child("rates", **request, threads=threads, seconds=rate_seconds))


def _turns(geometry: Geometry, unavailable: dict[str, str]) -> Iterator[Arm]:
    for arm in geometry.arms:
        if arm.name not in unavailable:
            yield arm
