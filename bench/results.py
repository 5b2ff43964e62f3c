"""From raw measurements to the results file: counted operations, roofline, verdicts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.arms import ARMS, Arm
from bench.flops import Lengths, StepFlops, parameters, step_flops
from bench.geometries import Geometry
from bench.spread import by_round, seconds_a_step, spread
from bench.targets import TARGETS, Target, verdicts

SCHEMA = 1


def head_parameters(geometry: Geometry) -> int:
    """Weights of the MLP that computes a learned β: from the model's width to 64, 64 and 1."""
    return 64 * geometry.shape.hidden + 64 * 64 + 64


def counted_flops(geometry: Geometry, arm: Arm, batches: Sequence[Sequence[Sequence[int]]]) -> dict[str, int]:
    """Operations of the arm's counted steps, mean over them."""
    road = arm.forward or "separate"
    found = [
        step_flops(
            [Lengths(*pair) for pair in batch],
            geometry.shape,
            road=road,
            live_reference=arm.live_reference,
            ppl_from=arm.ppl_from,
            trained_share=0.0 if geometry.adapter else 1.0,
            head_parameters=0 if arm.ppl_from is None else head_parameters(geometry),
        )
        for batch in batches
    ]
    mean = StepFlops(*(round(sum(column) / len(found)) for column in zip(*found, strict=True)))
    return {**mean._asdict(), "total": mean.total}


def rooflines(runs: Sequence[dict[str, Any]], rates: Sequence[dict[str, Any]], flops: dict[str, Any]) -> dict[str, Any]:
    """Counted operations per second of each arm over the matmul rates measured in the same run."""
    found: dict[str, Any] = {}
    for name, arms in flops.items():
        here = [rate for rate in rates if rate["geometry"] == name]
        shapes, square = (spread([rate[kind] for rate in here])["median"] for kind in ("model_shapes", "square"))
        for arm, counted in arms.items():
            mine = by_round(runs, name, arm)
            if not mine:
                continue
            reached = counted["total"] / spread([seconds_a_step(run) for run in mine.values()])["median"]
            found.setdefault(name, {})[arm] = {
                "flops_a_second": reached,
                "share_of_model_shapes": reached / shapes,
                "share_of_square": reached / square,
                "share_of_larger_rate": reached / max(shapes, square),
            }
    return found


def assembled(
    raw: dict[str, Any],
    geometries: Sequence[Geometry],
    *,
    about: dict[str, Any],
    skipped: Sequence[str],
    targets: Sequence[Target] = TARGETS,
) -> dict[str, Any]:
    """The content of a results file.

    Args:
        raw: what `schedule.measured` returned.
        geometries: the ones measured.
        about: versions, machine, command, date, threads.
        skipped: one sentence for each geometry that could not be measured.
        targets: what was to be reached.
    """
    flops = {
        geometry.name: {
            arm.name: counted_flops(geometry, arm, raw["lengths"][geometry.name][arm.order]) for arm in geometry.arms
        }
        for geometry in geometries
    }
    described = {
        geometry.name: {
            "key": geometry.key,
            "title": geometry.title,
            "shape": vars(geometry.shape),
            "parameters": parameters(geometry.shape),
            "pairs_per_step": geometry.pairs_per_step,
            "rounds": geometry.rounds,
            "steps": geometry.steps,
            "whole": raw["whole"][geometry.name],
            "arms": [arm.name for arm in geometry.arms],
        }
        for geometry in geometries
    }
    used = {name: {**vars(ARMS[name]), "settings": dict(ARMS[name].settings)} for name in ARMS}
    results = {
        "schema": SCHEMA,
        **about,
        "geometries": described,
        "arms": used,
        "skipped": list(skipped),
        **raw,
        "flops": flops,
        "roofline": rooflines(raw["runs"], raw["rates"], flops),
    }
    return {**results, "verdicts": verdicts(results, targets)}


def write(results: dict[str, Any], path: Path) -> None:
    """Write the file, its folder made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """The content of a results file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert found["schema"] == SCHEMA, f"{path.name} has schema {found['schema']}, but {SCHEMA} is read here"
    return found
