"""How far the runs of a method spread over seeds and configurations, against those of another."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from betahead.compare.panel_records import IntervalRecord, SpreadRow
from betahead.compare.plan import GOLD_METRICS, MetricName
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.work import Finished
from betahead.stats.bootstrap import statistic_interval

_REPLICATES = 500

Units = Float[np.ndarray, "units configurations seeds"]
"""Runs of a pool by what can be resampled: searches with tuning seeds of their own, or else single configurations."""
Counts = Float[np.ndarray, "replicates units"]
Spread = Callable[[Units, Counts], Float[np.ndarray, " replicates"]]


def spread_rows(finished: Finished) -> list[SpreadRow]:
    """The spread of A minus that of B, for every comparison and metric of gold; the interval resamples units.

    Both methods were run at the same points of the shared axes, so the difference is a paired one. Nothing is selected:
    all of the pool counts, with the worst that runs showed which diverged.
    """
    resolved = finished.resolved
    plan = resolved.plan
    rows: list[SpreadRow] = []
    for metric in resolved.metrics:
        if metric not in GOLD_METRICS:
            continue
        for cell in plan.cells:
            for one in plan.comparisons:
                a, b = (_values(finished, cell, method, metric) for method in (one.a, one.b))
                rows.append(
                    SpreadRow(
                        cell=cell,
                        metric=metric,
                        a=one.a,
                        b=one.b,
                        over_seeds=_difference(finished, a, b, over_seeds) if plan.pool.seeds > 1 else None,
                        over_configurations=_difference(finished, a, b, over_configurations)
                        if plan.pool.configurations > 1
                        else None,
                    )
                )
    return rows


def spread_units(resolved: ResolvedPlan, values: Float[np.ndarray, "configurations seeds"]) -> Units:
    """The runs of a pool by search where each has tuning seeds of its own, else one by one."""
    pool = resolved.plan.pool
    members = pool.trials if resolved.plan.searches.seed_sets > 1 else 1
    units = len(values) // members
    return values[: units * members].reshape(units, members, -1)


def over_seeds(units: Units, counts: Counts) -> Float[np.ndarray, " replicates"]:
    """The standard deviation between the seeds of a configuration, its variance averaged over configurations."""
    return np.sqrt((counts @ np.var(units, axis=2, ddof=1).mean(axis=1)) / counts.sum(axis=1))


def over_configurations(units: Units, counts: Counts) -> Float[np.ndarray, " replicates"]:
    """The standard deviation between the configurations' means over seeds; within searches, where those are the units.

    Either way those that are compared have the same seeds, so that the luck of seeds is not in it.
    """
    means = units.mean(axis=2)
    total = counts.sum(axis=1)
    if means.shape[1] > 1:
        return np.sqrt((counts @ np.var(means, axis=1, ddof=1)) / total)
    centred = means[:, 0] - ((counts @ means[:, 0]) / total)[:, None]
    return np.sqrt(np.sum(counts * centred**2, axis=1) / np.maximum(total - 1.0, 1.0))


def _values(finished: Finished, cell: str, method: str, metric: MetricName) -> Units:
    dev, resolved = finished.dev[cell, method], finished.resolved
    return spread_units(resolved, np.mean([dev[name] for name in resolved.components(metric, cell)], axis=0))


def _difference(finished: Finished, a: Units, b: Units, spread: Spread) -> IntervalRecord:
    plan = finished.resolved.plan
    return IntervalRecord.of(
        statistic_interval(
            lambda counts: spread(a, counts) - spread(b, counts),
            np.arange(len(a)),
            seed=plan.seed,
            replicates=_REPLICATES,
            level=1.0 - plan.alpha,
        )
    )
