"""`python -m bench`: measure, write the results file, print the table."""

import argparse
import datetime
import os
import sys
from dataclasses import replace
from pathlib import Path

from bench.arms import ARMS
from bench.geometries import GEOMETRIES, QUICK, Geometry, PublicPairs
from bench.machine import command, machine, versions
from bench.results import assembled, write
from bench.schedule import Measurements, Plan
from bench.table import report

RESULTS = Path(__file__).parent / "results"


def parsed(words: list[str]) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ours against TRL, side by side on the CPU.")
    keys = sorted({geometry.key for geometry in GEOMETRIES})
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="KEY", help=f"of {' '.join(keys)}")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), metavar="ARM", help="only these, by name")
    parser.add_argument("--rounds", type=int, help="instead of each geometry's own")
    parser.add_argument("--steps", type=int, help="counted steps of a run, instead of each geometry's own")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="the same for every arm")
    parser.add_argument("--rate-seconds", type=float, default=2.0, help="time given to the matmul rate, each round")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that the harness works, nothing else")
    parser.add_argument("--name", default="cpu", help="of the results file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results file")
    return parser.parse_args(words)


def wanted(options: argparse.Namespace) -> list[Geometry]:
    """The geometries that the options ask for, changed as they say; those without any of the arms are left."""
    chosen = [QUICK] if options.quick else [geometry for geometry in GEOMETRIES if geometry.key in options.only]
    changes = {name: value for name in ("rounds", "steps") if (value := getattr(options, name)) is not None}
    return [
        replace(geometry, **changes, arms=arms)
        for geometry in chosen
        if (arms := tuple(arm for arm in geometry.arms if options.arms is None or arm.name in options.arms))
    ]


def split_by_data(geometries: list[Geometry], data: Path | None) -> tuple[list[Geometry], list[str]]:
    """Those whose pairs are there, and a sentence for each of the others."""
    there, skipped = [], []
    for geometry in geometries:
        if isinstance(geometry.data, PublicPairs) and (data is None or not (data / geometry.data.file).is_file()):
            skipped.append(
                f"{geometry.title}: not measured, `BETAHEAD_DATA` names no folder with {geometry.data.file}."
            )
        else:
            there.append(geometry)
    return there, skipped


def main(words: list[str]) -> int:
    """Run the benchmarks."""
    options = parsed(words)
    folder = os.environ.get("BETAHEAD_DATA")
    data = Path(folder).resolve() if folder else None
    geometries, skipped = split_by_data(wanted(options), data)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for line in skipped:
        say(line)
    plan = Plan(geometries=geometries, threads=options.threads, data=data, rate_seconds=options.rate_seconds, say=say)
    raw = Measurements(plan).take()
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": command("bench", words),
        "threads": options.threads,
        "versions": versions(),
        "machine": machine(),
    }
    results = assembled(raw, geometries, about=about, skipped=skipped)
    write(results, options.out / f"{options.name}.json")
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
