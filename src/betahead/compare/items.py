"""The units of work of a comparison: which runs, under an id that is the same in every process."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from betahead.compare.pool import pool_of
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.score import Scores, joined, over_prompts, scores_of

Stage = Literal["pool", "final"]
STAGES: tuple[Stage, ...] = ("pool", "final")

Run = tuple[int, int]
"""The number of a configuration in its method's pool, and a seed."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Runs of one method in one cell."""

    cell: str
    method: str
    stage: Stage
    runs: tuple[Run, ...]

    @property
    def id(self) -> str:
        """A name that says what it is, and a digest of all of it."""
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.stage}:{self.cell}:{self.method}:{digest}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the storage."""
        return {
            "cell": self.cell,
            "method": self.method,
            "stage": self.stage,
            "runs": [list(run) for run in self.runs],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Item":
        """What `to_dict` gave, after a way through JSON."""
        runs = tuple((int(number), int(seed)) for number, seed in values["runs"])
        return cls(cell=values["cell"], method=values["method"], stage=values["stage"], runs=runs)


def pool_items(resolved: ResolvedPlan) -> list[Item]:
    """The pool of every cell and method: Q configurations, each with S tuning seeds."""
    plan = resolved.plan
    runs = [(number, seed) for number in range(plan.pool.configurations) for seed in resolved.seeds_of(number)]
    return [
        item for cell in plan.cells for method in plan.methods for item in _cut(resolved, cell, method, "pool", runs)
    ]


def first_item(resolved: ResolvedPlan, most: int) -> Item:
    """The first runs of the pool, at most so many: a piece of work to time."""
    plan = resolved.plan
    places = [divmod(at, plan.pool.seeds) for at in range(min(most, plan.runs_per_item))]
    runs = [(row, resolved.seeds_of(row)[column]) for row, column in places if row < plan.pool.configurations]
    return Item(cell=plan.cells[0], method=next(iter(plan.methods)), stage="pool", runs=tuple(runs))


def final_items(resolved: ResolvedPlan, cell: str, method: str, chosen: Sequence[Sequence[int]]) -> list[Item]:
    """The finals of a method in a cell: each final seed with the configurations that its search picked.

    Args:
        resolved: the plan.
        cell: where.
        method: whose.
        chosen: of each final seed, the numbers of configurations.
    """
    runs = sorted(
        {(number, seed) for seed, numbers in zip(resolved.final_seeds, chosen, strict=True) for number in numbers}
    )
    return _cut(resolved, cell, method, "final", runs)


def run_item(resolved: ResolvedPlan, item: Item) -> Scores:
    """Train the runs of an item and reduce them; the pool is scored on dev, finals on test."""
    pool = pool_of(resolved, item.method)
    world, plan = resolved.worlds[item.cell], resolved.plan
    parts: list[Scores] = []
    done: list[Run] = []
    for seeds, numbers in calls_of(item.runs).items():
        outcome = world.run(
            item.method, [pool[number] for number in numbers], seeds, split="eval" if item.stage == "pool" else "test"
        )
        assert outcome.finite.shape == (len(numbers), len(seeds)), (outcome.finite.shape, item)
        scores = scores_of(outcome, resolved.targets[item.cell], plan.metric.kappas)
        parts.append(over_prompts(scores) if item.stage == "pool" else scores)
        done += [(number, seed) for number in numbers for seed in seeds]
    return joined(parts, [done.index(run) for run in item.runs])


def calls_of(runs: Iterable[Run]) -> dict[tuple[int, ...], list[int]]:
    """Which configurations share a set of seeds: a world trains those at once."""
    seeds_of: dict[int, tuple[int, ...]] = {}
    for number, seed in runs:
        seeds_of[number] = (*seeds_of.get(number, ()), seed)
    calls: dict[tuple[int, ...], list[int]] = {}
    for number, seeds in seeds_of.items():
        calls.setdefault(seeds, []).append(number)
    return calls


def _cut(resolved: ResolvedPlan, cell: str, method: str, stage: Stage, runs: Sequence[Run]) -> list[Item]:
    most = resolved.plan.runs_per_item
    return [
        Item(cell=cell, method=method, stage=stage, runs=tuple(runs[at : at + most]))
        for at in range(0, len(runs), most)
    ]
