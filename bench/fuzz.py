"""`python -m bench.fuzz`: thousands of broken inputs through every door, each of which must end in a sentence.

What is generated is the same in every run: the examples follow from the code alone.
"""

import argparse
import faulthandler
import json
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from bench.fuzz_doors import Target
from bench.fuzz_targets import Doors
from bench.machine import machine, versions
from betahead.errors import BetaHeadError
from betahead.runs.quiet import quieted

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
_HANGS_AFTER = 120


@dataclass(kw_only=True)
class Tally:
    """What became of the inputs of one target.

    Args:
        outcomes: `valid`, or the name of the error, and how often.
        slowest: seconds of the slowest input.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0


def fuzzed(target: Target, inputs: int) -> Tally:
    """Put so many inputs through a target.

    Raises:
        Exception: whatever an input provoked that is no sentence of ours, after hypothesis has made the input small.
    """
    found = Tally()

    @seed(zlib.crc32(target.name.encode()))  # every run the same, every target its own
    @settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(target.inputs)
    def one(value: Any) -> None:
        faulthandler.dump_traceback_later(_HANGS_AFTER, exit=True)
        began = time.perf_counter()
        try:
            target.read(value)
            outcome = "valid"
        except BetaHeadError as error:
            outcome = type(error).__name__
        finally:
            faulthandler.cancel_dump_traceback_later()
        found.slowest = max(found.slowest, time.perf_counter() - began)
        found.outcomes[outcome] += 1

    one()
    return found


def shared_out(inputs: int, names: Sequence[str], folder: Path) -> Iterator[tuple[Target, int]]:
    """The targets whose names begin with one of `names` (all, if there is none), and how many inputs each gets."""
    targets = [
        target for target in Doors(folder).targets() if not names or any(target.name.startswith(name) for name in names)
    ]
    shares = sum(target.share for target in targets)
    for target in targets:
        yield target, max(1, round(inputs * target.share / shares))


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz, write the counts, and say how many inputs there were; 1 when one ended in anything but a sentence."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=12_000, help="in all")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="targets whose names begin so")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file of the counts")
    given_words = parser.parse_args(words)
    began = time.perf_counter()
    found: dict[str, Tally] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="betahead-fuzz-") as folder, quieted():
        for target, inputs in shared_out(given_words.inputs, given_words.only, Path(folder)):
            try:
                found[target.name] = tally = fuzzed(target, inputs)
                print(f"{target.name:<30} {dict(tally.outcomes)}, slowest {tally.slowest:.2f} s", flush=True)
            except Exception:
                failed.append(target.name)
                print(f"{target.name:<30} FAILS\n{traceback.format_exc()}", flush=True)
    outcomes = sum((tally.outcomes for tally in found.values()), Counter[str]())
    results = {
        "schema": 1,
        "inputs": outcomes.total(),
        "outcomes": dict(outcomes),
        "failed": failed,
        "slowest_seconds": max((tally.slowest for tally in found.values()), default=0.0),
        "seconds": time.perf_counter() - began,
        "targets": {
            name: {"outcomes": dict(tally.outcomes), "slowest": tally.slowest} for name, tally in found.items()
        },
        "versions": versions(),
        "machine": machine(),
    }
    given_words.out.parent.mkdir(parents=True, exist_ok=True)
    given_words.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"{outcomes.total():,} inputs, {dict(outcomes)}, in {results['seconds']:.0f} s; counts in {given_words.out}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
