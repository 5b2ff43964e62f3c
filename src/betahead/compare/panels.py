"""The panels of a comparison: budgets, curves, frontiers, stability and headroom, from what the storage holds."""

import math
from collections.abc import Iterable

import numpy as np

from betahead.compare.across import across_rows
from betahead.compare.allocation import allocation_rows, beta_rows
from betahead.compare.best_of_n import best_of_n_rows
from betahead.compare.cloud import cloud_rows, envelope_rows
from betahead.compare.judged import final_values
from betahead.compare.measured import compute_rows, measure_kinds, measure_rows, noise_rows
from betahead.compare.panel_records import (
    BudgetRow,
    CheckpointRow,
    DivergedRow,
    FrontierRow,
    HeadlineRow,
    HeadroomRow,
    IntervalRecord,
    Panels,
)
from betahead.compare.plan import better_side
from betahead.compare.pool import pool_of
from betahead.compare.spread import over_configurations, over_seeds, spread_rows, spread_units
from betahead.compare.work import Finished
from betahead.stats.bootstrap import Interval, statistic_interval
from betahead.stats.paired import paired_interval

# Of an axis, on its own scale: a pick so near its end may have wanted more.
_EDGE = 0.05
_REPLICATES = 500


def panels_of(finished: Finished) -> Panels:
    """All panels of a finished comparison."""
    return Panels(
        budget=_budget(finished),
        headline=_headline(finished),
        best_of_n=best_of_n_rows(finished),
        frontier=_frontier(finished),
        checkpoints=_checkpoints(finished),
        cloud=cloud_rows(finished),
        envelope=envelope_rows(finished),
        stability=_stability(finished),
        spread=spread_rows(finished),
        measures=measure_rows(finished),
        measure_kinds=measure_kinds(finished),
        label_noise=noise_rows(finished),
        compute=compute_rows(finished),
        beta=beta_rows(finished),
        allocation=allocation_rows(finished),
        across=across_rows(finished),
        headroom=_headroom(finished),
    )


def _places(finished: Finished) -> list[tuple[str, str]]:
    plan = finished.resolved.plan
    return [(cell, method) for cell in plan.cells for method in plan.methods]


def _budget(finished: Finished) -> list[BudgetRow]:
    resolved = finished.resolved
    plan = resolved.plan
    return [
        BudgetRow(
            method=method,
            axes=list(resolved.spaces[method]),
            configurations=plan.pool.configurations,
            trials=plan.pool.trials,
            tuning_seeds=plan.pool.seeds,
            pool_runs=len(plan.cells) * plan.pool.configurations * plan.pool.seeds,
            final_runs=sum(len(finished.finals[cell, method][0]) for cell in plan.cells),
            seconds=sum(finished.seconds[cell, method] for cell in plan.cells),
            picked_at_an_edge=_at_an_edge(finished, method),
        )
        for method in plan.methods
    ]


def _at_an_edge(finished: Finished, method: str) -> float:
    """The share of picks, over cells and finals, with a value at the end of its range."""
    resolved = finished.resolved
    pool, space = pool_of(resolved, method), resolved.spaces[method]

    def edge(number: int) -> bool:
        for name, axis in space.items():
            value, low, high = pool[number][name], axis.low, axis.high
            if axis.log:
                value, low, high = math.log(value), math.log(low), math.log(high)
            if not low + _EDGE * (high - low) <= value <= high - _EDGE * (high - low):
                return True
        return False

    picks = np.concatenate(
        [
            finished.chosen[cell, method][component]
            for cell in resolved.plan.cells
            for component in resolved.components(resolved.plan.metric.primary, cell)
        ]
    )
    return float(np.mean([edge(int(number)) for number in picks]))


def _headline(finished: Finished) -> list[HeadlineRow]:
    return [
        HeadlineRow(
            cell=cell,
            method=method,
            metric=metric,
            value=_interval(finished, final_values(finished, cell, method, metric)),
        )
        for cell, method in _places(finished)
        for metric in finished.resolved.selected_metrics
    ]


def _frontier(finished: Finished) -> list[FrontierRow]:
    resolved = finished.resolved
    if "gold_at_matched_kl" not in resolved.metrics:
        return []
    rows: list[FrontierRow] = []
    for cell, method in _places(finished):
        runs, scores = finished.finals[cell, method]
        row_of = {run: row for row, run in enumerate(runs)}
        components = resolved.components("gold_at_matched_kl", cell)
        for component, kl in zip(components, resolved.targets[cell], strict=True):
            numbers = finished.chosen[cell, method][component]
            at = [row_of[int(number), seed] for number, seed in zip(numbers, resolved.final_seeds, strict=True)]
            reached = np.nanmax(scores.path[at, 1:, 1], axis=1, initial=0.0) >= kl
            gold = _interval(finished, scores.values[component][at])
            rows.append(FrontierRow(cell=cell, method=method, kl=kl, gold=gold, share_short=float(np.mean(~reached))))
    return rows


def _checkpoints(finished: Finished) -> list[CheckpointRow]:
    rows: list[CheckpointRow] = []
    for cell, method in _places(finished):
        scores = finished.finals[cell, method][1]
        for number, share in enumerate(scores.checkpoints):
            reward, kl, win_rate = (_mean(scores.path[:, number, which]) for which in range(3))
            rows.append(CheckpointRow(cell=cell, method=method, share=share, reward=reward, kl=kl, win_rate=win_rate))
    return rows


def _stability(finished: Finished) -> list[DivergedRow]:
    resolved = finished.resolved
    rows: list[DivergedRow] = []
    for cell, method in _places(finished):
        dev = finished.dev[cell, method]
        parts = np.stack([dev[name] for name in resolved.components(resolved.plan.metric.primary, cell)])
        units = spread_units(resolved, parts.mean(axis=0))
        seeds, configurations = resolved.plan.pool.seeds, resolved.plan.pool.configurations
        all_of_them = np.ones((1, len(units)))
        rows.append(
            DivergedRow(
                cell=cell,
                method=method,
                pool=float(np.mean(~finished.pools[cell, method].finite)),
                finals=float(np.mean(~finished.finals[cell, method][1].finite)),
                sd_over_seeds=over_seeds(units, all_of_them).item() if seeds > 1 else None,
                sd_over_configurations=over_configurations(units, all_of_them).item() if configurations > 1 else None,
            )
        )
    return rows


def _headroom(finished: Finished) -> list[HeadroomRow]:
    plan = finished.resolved.plan
    if plan.headroom is None:
        return []
    rows: list[HeadroomRow] = []
    for cell in plan.cells:
        values = {
            method: final_values(finished, cell, method, plan.metric.primary)
            for method in {plan.headroom.fixed, plan.headroom.oracle, *plan.headroom.learned}
        }
        sign = -1.0 if better_side(plan.metric.primary) == "lower" else 1.0
        room = sign * (values[plan.headroom.oracle] - values[plan.headroom.fixed])
        headroom = _interval(finished, room)
        defined = headroom.estimate >= plan.rope and headroom.low is not None and headroom.low > 0.0
        for method in plan.headroom.learned:
            gain = sign * (values[method] - values[plan.headroom.fixed]).mean(axis=1)
            captured = _ratio(gain, room.mean(axis=1), plan.seed) if defined else None
            rows.append(HeadroomRow(cell=cell, method=method, headroom=headroom, captured=captured))
    return rows


def _ratio(gain: np.ndarray, room: np.ndarray, seed: int) -> IntervalRecord:
    finals = np.arange(len(gain))
    return IntervalRecord.of(statistic_interval(lambda w: (w @ gain) / (w @ room), finals, seed=seed))


def _interval(finished: Finished, values: np.ndarray) -> IntervalRecord:
    plan = finished.resolved.plan
    found: Interval = paired_interval(values, seed=plan.seed, replicates=_REPLICATES, level=1.0 - plan.alpha)
    return IntervalRecord.of(found)


def _mean(values: Iterable[float]) -> float | None:
    """The mean over the runs whose numbers are finite there, or None where there is none: JSON has no NaN."""
    all_values = np.fromiter(values, dtype=np.float64)
    finite = all_values[np.isfinite(all_values)]
    return float(finite.mean()) if len(finite) else None
