"""Summaries of repeated measurements: smallest, median, largest, and ratios round by round."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Run = Mapping[str, Any]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Smallest, median and largest."""
    return {"min": min(values), "median": median(values), "max": max(values)}


def seconds_a_step(run: Run) -> float:
    """Mean seconds of the counted steps of one run."""
    return sum(run["step_seconds"]) / len(run["step_seconds"])


def pairs_a_second(run: Run) -> float:
    """Pairs trained on per second of the counted steps."""
    return sum(run["step_pairs"]) / sum(run["step_seconds"])


def tokens_a_second(run: Run) -> float:
    """Tokens of distinct prompts and answers per second: what padding or repeating adds does not count."""
    return sum(run["step_tokens"]) / sum(run["step_seconds"])


def pairs_a_second_with_reference(run: Run) -> float:
    """The same over one epoch, the reference's scoring of each pair included."""
    pairs = sum(run["step_pairs"])
    return pairs / (sum(run["step_seconds"]) + pairs * run["reference_seconds"] / run["rows"])


def by_round(runs: Sequence[Run], geometry: str, arm: str) -> dict[int, Run]:
    """The runs of one arm on one geometry, by round."""
    return {run["round"]: run for run in runs if run["geometry"] == geometry and run["arm"] == arm}


def alike(first: Run, second: Run) -> tuple[Run, Run]:
    """Both runs with as many steps as the shorter one has, the first ones: a process is quicker once it is warm."""
    steps = min(len(first["step_seconds"]), len(second["step_seconds"]))
    series = ("step_seconds", "step_pairs", "step_tokens")
    one, other = ({**run, **{name: run[name][:steps] for name in series}} for run in (first, second))
    return one, other


def ratio(runs: Sequence[Run], geometry: str, ours: str, theirs: str, figure: str) -> dict[str, Any] | None:
    """The ratio of a figure between two arms in each round, and its spread.

    Args:
        runs: raw measurements.
        geometry: where.
        ours: the arm above the line.
        theirs: the arm below it.
        figure: `speed` (pairs a second), `epoch_speed` (the reference's scoring included), `memory` (peak beyond the
            bare process) or `time` (seconds a step).

    Returns:
        `rounds` (the ratios in order), `min`, `median`, `max`; None when no round has both arms.
    """
    above, below = by_round(runs, geometry, ours), by_round(runs, geometry, theirs)
    read = {
        "speed": pairs_a_second,
        "epoch_speed": pairs_a_second_with_reference,
        "memory": lambda run: run["peak_bytes"],
        "time": seconds_a_step,
    }[figure]
    both = [alike(above[number], below[number]) for number in sorted(above.keys() & below.keys())]
    values = [read(ours_run) / read(theirs_run) for ours_run, theirs_run in both]
    return {"rounds": values, **spread(values)} if values else None
