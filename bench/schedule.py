"""Runs in turn, each in a process of its own: A B C A B C, so that what else the machine does hits all arms alike."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.arms import Arm
from bench.flops import Lengths
from bench.geometries import Geometry

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
            "PYTHONWARNINGS": "ignore",
        }

    def __call__(self, name: str, **request: Any) -> dict[str, Any]:
        """Run it to its end and return its result.

        Raises:
            RuntimeError: it failed; the message ends with what it wrote last.
        """
        result = self.scratch / "result.json"
        result.unlink(missing_ok=True)
        # A folder of its own for whatever is cached: no run finds what another has scored.
        with tempfile.TemporaryDirectory(dir=self.scratch) as own:
            done = subprocess.run(
                [sys.executable, "-m", f"bench.{name}", json.dumps({**request, "result": str(result)})],
                env={**self.environment, "HF_HOME": own, "XDG_CACHE_HOME": own},
                cwd=own,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            raise RuntimeError(f"bench.{name} failed on {request}:\n{done.stderr[-3000:]}")
        return json.loads(result.read_text()) if result.exists() else {}  # `prepare` leaves a folder instead


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run and how.

    Args:
        geometries: those that share a key are interleaved with one another.
        threads: of every process.
        data: the folder of the public pairs, or None.
        device: `cpu` or `cuda`.
        program: the module of this package that runs one arm.
        rate_seconds: time for the matmul rates, each round.
        minutes: no run is started after so many; None for no limit.
        parity: also ask the program how far our two roads are apart.
        say: told of every run.
        part: a file that holds what is there after every run, so that a stop loses none; None for no file.
    """

    geometries: Sequence[Geometry]
    threads: int
    data: Path | None = None
    device: str = "cpu"
    program: str = "measure"
    rate_seconds: float = 3.0
    minutes: float | None = None
    parity: bool = False
    say: Callable[[str], None]
    part: Path | None = None


class Measurements:
    """Raw numbers as they come in."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.started = time.monotonic()
        self.runs: list[dict[str, Any]] = []
        self.rates: list[dict[str, Any]] = []
        self.unavailable: dict[str, dict[str, str]] = {}
        self.lengths: dict[str, dict[str, list[list[Lengths]]]] = {}
        self.whole: dict[str, dict[str, int]] = {}
        self.left_out: list[str] = []
        self.parity: dict[str, Any] = {}

    def take(self) -> dict[str, Any]:
        """Run the plan.

        Returns:
            `runs`, `rates`, `parity`, `unavailable` (reasons by geometry and arm), `lengths` (of each counted pair, by
            geometry and order), `whole` (size of each data set), `left_out` (runs for which no time was left).
        """
        for key in dict.fromkeys(geometry.key for geometry in self.plan.geometries):
            together = [geometry for geometry in self.plan.geometries if geometry.key == key]
            with tempfile.TemporaryDirectory() as scratch:
                child = Child(Path(scratch), self.plan.threads)
                for geometry in together:
                    self._prepare(child, geometry)
                    if self.plan.parity:
                        self._parity(child, geometry)
                for number in range(max(geometry.rounds for geometry in together)):
                    for geometry in together:
                        if number < geometry.rounds:
                            self._round(child, geometry, number)
        return self.taken()

    def taken(self) -> dict[str, Any]:
        """What is there so far, as `take` returns it."""
        names = ("runs", "rates", "unavailable", "lengths", "whole", "left_out", "parity")
        return {name: getattr(self, name) for name in names}

    def _keep(self) -> None:
        if self.plan.part is not None:
            self.plan.part.parent.mkdir(parents=True, exist_ok=True)
            self.plan.part.write_text(json.dumps(self.taken()), encoding="utf-8")

    def _prepare(self, child: Child, geometry: Geometry) -> None:
        self.plan.say(f"{geometry.name}: pairs and model")
        folder = child.scratch / geometry.name
        data = None if self.plan.data is None else str(self.plan.data)
        child("prepare", geometry=geometry.name, steps=geometry.steps, folder=str(folder), data=data)
        rows = json.loads((folder / "rows.json").read_text())
        self.whole[geometry.name] = rows["whole"]
        self.lengths[geometry.name] = {
            order: [[lengths_of(row) for row in batch] for batch in batches[1:]]
            for order, batches in rows["batches"].items()
        }

    def _parity(self, child: Child, geometry: Geometry) -> None:
        found = child(self.plan.program, **self._request(child, geometry, "parity"))
        self.parity[geometry.name] = found
        self.plan.say(f"{geometry.name}: shared against separate: {found}")

    def _request(self, child: Child, geometry: Geometry, arm: str) -> dict[str, Any]:
        return {
            "geometry": geometry.name,
            "arm": arm,
            "threads": self.plan.threads,
            "device": self.plan.device,
            "folder": str(child.scratch / geometry.name),
        }

    def _round(self, child: Child, geometry: Geometry, number: int) -> None:
        for arm in geometry.arms:
            if arm.name in self.unavailable.get(geometry.name, {}):
                continue
            if self.plan.minutes is not None and time.monotonic() - self.started > 60 * self.plan.minutes:
                self.left_out.append(f"{geometry.name} round {number + 1}: {arm.name}")
                continue
            self._run(child, geometry, number, arm)
            self._keep()
        pairs = [pair for batch in next(iter(self.lengths[geometry.name].values())) for pair in batch]
        self.rates.append(
            child(
                "rates",
                geometry=geometry.name,
                round=number,
                tokens=round(sum(pair.distinct for pair in pairs) / geometry.steps),
                scored=round(sum(pair.chosen + pair.rejected for pair in pairs) / geometry.steps),
                threads=self.plan.threads,
                seconds=self.plan.rate_seconds,
                device=self.plan.device,
            )
        )

    def _run(self, child: Child, geometry: Geometry, number: int, arm: Arm) -> None:
        start = time.monotonic()
        result = child(self.plan.program, **self._request(child, geometry, arm.name))
        if "unavailable" in result:
            self.unavailable.setdefault(geometry.name, {})[arm.name] = result["unavailable"]
            self.plan.say(f"{arm.title}: not measured, {result['unavailable']}")
            return
        self.runs.append({"geometry": geometry.name, "round": number, "arm": arm.name, **result})
        a_step = sum(result["step_seconds"]) / len(result["step_seconds"])
        self.plan.say(
            f"{geometry.name} round {number + 1}: {arm.title}: {a_step:.3f} s a step, "
            f"{result['peak_bytes'] / 2**30:.2f} GiB ({time.monotonic() - start:.0f} s in all)"
        )


def lengths_of(row: dict[str, list[int]]) -> Lengths:
    """Tokens of a pair's parts."""
    return Lengths(len(row["prompt_ids"]), len(row["chosen_ids"]), len(row["rejected_ids"]))
