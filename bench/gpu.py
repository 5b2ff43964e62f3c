"""One CUDA device, a model of 1.5 billion weights in bfloat16: `python -m bench.gpu`.

Our side needs torch, transformers and this package's source; what `DPOTrainer` needs beside them is used where it is
installed, and the results say which road was measured. Without a CUDA device it says so and ends well.
`--device cpu --tiny` runs all of it at a tiny size.
"""

import argparse
import datetime
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.arms import ARMS
from bench.geometries import GPU, GPU_TINY
from bench.gpu_targets import GPU_TARGETS
from bench.machine import command, machine, versions
from bench.results import assembled, write
from bench.schedule import Child, Measurements, Plan
from bench.table import report

RESULTS = Path(__file__).parent / "results"
MINUTES = 7.0


def parsed(words: list[str]) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Ours against TRL on one CUDA device.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: shows that it runs, nothing else")
    names = [geometry.name for geometry in (*GPU, *GPU_TINY)]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=f"of {' '.join(names)}")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), metavar="ARM", help="only these, by name")
    parser.add_argument("--rounds", type=int, help="instead of each geometry's own")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no run starts after so many")
    parser.add_argument("--name", default="gpu", help="of the results file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results file")
    return parser.parse_args(words)


def gpu_of_this_machine() -> str | None:
    """The device's name, asked in a process of its own; None without a CUDA device."""
    with tempfile.TemporaryDirectory() as scratch:
        return Child(Path(scratch), 1)("gpu_name")["name"]


def main(words: list[str]) -> int:
    """Run the benchmarks."""
    options = parsed(words)
    name = None if options.device == "cpu" else gpu_of_this_machine()
    if options.device == "cuda" and name is None:
        print("No CUDA device here, so nothing was measured; `--device cpu --tiny` shows that the program runs.")
        return 0
    geometries = [
        replace(
            geometry,
            rounds=options.rounds or geometry.rounds,
            arms=tuple(arm for arm in geometry.arms if options.arms is None or arm.name in options.arms),
        )
        for geometry in (GPU_TINY if options.tiny else GPU)
        if geometry.name in options.only
    ]
    results = measured(geometries, options, {**machine(), "gpu": name}, words)
    write(results, options.out / f"{options.name}.json")
    part_of(options).unlink(missing_ok=True)
    print(report(results))
    return 0


def part_of(options: argparse.Namespace) -> Path:
    """Where the raw numbers lie until the results file is written."""
    return options.out / f"{options.name}.part.json"


def measured(geometries: list[Any], options: argparse.Namespace, hardware: dict[str, Any], words: list[str]) -> Any:
    """The content of the results file."""

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    plan = Plan(
        geometries=geometries,
        threads=min(8, hardware["cores"]) if options.device == "cuda" else 1,
        device=options.device,
        program="gpu_run",
        rate_seconds=0.2 if options.tiny else 2.0,
        minutes=options.minutes,
        parity=True,
        say=say,
        part=part_of(options),
    )
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command("bench.gpu", words),
        "threads": plan.threads,
        "versions": versions(),
        "machine": hardware,
    }
    return assembled(Measurements(plan).take(), geometries, about=about, skipped=[], targets=GPU_TARGETS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
