"""How long a plan will take, from a few of its runs.

A world trains the runs of one call at once, so a call costs something to begin and something for every run: the pool
goes in large calls and the finals in small ones. Methods and cells differ in what a run costs, so each is timed once
where a run is short.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from betahead.compare.items import Item, calls_of, first_item, pool_items, run_item
from betahead.compare.resolved import ResolvedPlan

_MANY = 16
# A run that takes as long is timed once, and stands for every other.
_LONG_SECONDS = 5.0
# Seconds that may go into timing methods and cells apart.
_MOST_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a plan is expected to take.

    Args:
        seconds: of one core, in all.
        per_run: the mean over all runs.
        basis: what it rests on.
    """

    seconds: float
    per_run: float
    basis: str


def timing(resolved: ResolvedPlan, finals: Mapping[str, int]) -> Timing:
    """Time a few runs of a plan, unless it states a time.

    Args:
        resolved: the plan.
        finals: by cell, the runs of a method's finals, at most.
    """
    plan = resolved.plan
    first = [
        item for item in pool_items(resolved) if (item.cell, item.method) == (plan.cells[0], next(iter(plan.methods)))
    ]
    pool_runs = sum(len(item.runs) for item in first)
    runs = len(plan.methods) * sum(pool_runs + finals[cell] for cell in plan.cells)
    stated = plan.seconds_per_run
    if stated is not None:
        return Timing(seconds=runs * stated, per_run=stated, basis="stated in the plan")
    one = first_item(resolved, 1)
    single = run_item(resolved, one).seconds
    where = f"of {one.method} in {one.cell}"
    if single >= _LONG_SECONDS:
        return Timing(seconds=runs * single, per_run=single, basis=f"measured on 1 run {where}")
    many = first_item(resolved, _MANY)
    begin, each = _parts(many, run_item(resolved, many).seconds, run_item(resolved, one).seconds)
    pool_calls = sum(len(calls_of(item.runs)) for item in first)
    of_cell = {
        cell: begin * (pool_calls + plan.finals.seeds) + each * (pool_runs + finals[cell]) for cell in plan.cells
    }
    basis = f"measured on {len(many.runs)} runs {where}"
    methods, cells = dict.fromkeys(plan.methods, 1.0), dict.fromkeys(plan.cells, 1.0)
    if (begin + each) * (len(methods) + len(cells)) < _MOST_SECONDS:
        least = max(begin + each, 1e-9)
        methods = {name: _single(one, resolved, method=name) / least for name in methods}
        cells = {name: _single(one, resolved, cell=name) / least for name in cells}
        basis += (
            f", and one of every method and cell; the dearest method takes {max(methods.values()):.2g} times as long"
        )
    seconds = sum(methods.values()) * sum(of_cell[cell] * cells[cell] for cell in plan.cells)
    return Timing(seconds=seconds, per_run=seconds / runs, basis=basis)


def _parts(many: Item, seconds: float, single: float) -> tuple[float, float]:
    """What a call costs to begin, and every run in it; all to the run where that cannot be told."""
    calls, runs = len(calls_of(many.runs)), len(many.runs)
    if runs == calls:
        return 0.0, seconds / runs
    each = min(max((seconds - calls * single) / (runs - calls), 0.0), single)
    return single - each, each


def _single(one: Item, resolved: ResolvedPlan, *, method: str | None = None, cell: str | None = None) -> float:
    item = Item(cell=cell or one.cell, method=method or one.method, stage=one.stage, runs=one.runs)
    return run_item(resolved, item).seconds
