"""How far what a method is worth spreads over the conditions of one world, such as the length of training."""

import numpy as np
from jaxtyping import Float

from betahead.compare.judged import final_values
from betahead.compare.panel_records import AcrossRow, IntervalRecord
from betahead.compare.work import Finished
from betahead.stats.bootstrap import Interval, statistic_interval

_REPLICATES = 500

Values = Float[np.ndarray, "conditions finals"]
Counts = Float[np.ndarray, "replicates finals"]


def across_rows(finished: Finished) -> list[AcrossRow]:
    """The standard deviation over conditions of A's mean final, of B's, and A's minus B's; finals are resampled.

    Conditions are the cells of a plan that are one world by name, up to `@`. Both methods meet the same conditions, and
    all conditions the same seeds. A world with a single condition has no row.
    """
    plan = finished.resolved.plan
    worlds: dict[str, list[str]] = {}
    for cell in plan.cells:
        worlds.setdefault(cell.partition("@")[0], []).append(cell)
    rows: list[AcrossRow] = []
    for world, cells in worlds.items():
        if len(cells) == 1:
            continue
        for one in plan.comparisons:
            a, b = (
                np.stack([final_values(finished, cell, name, plan.metric.primary).mean(axis=1) for cell in cells])
                for name in (one.a, one.b)
            )
            found = [_interval(finished, values) for values in (a, b)]
            difference = _between(finished, a, b)
            rows.append(
                AcrossRow(
                    world=world,
                    conditions=len(cells),
                    a=one.a,
                    b=one.b,
                    of_a=IntervalRecord.of(found[0]),
                    of_b=IntervalRecord.of(found[1]),
                    difference=IntervalRecord.of(difference),
                )
            )
    return rows


def over_conditions(values: Values, counts: Counts) -> Float[np.ndarray, " replicates"]:
    """The standard deviation between the conditions' means over finals."""
    return np.std((counts @ values.T) / counts.sum(axis=1, keepdims=True), axis=1, ddof=1)


def _interval(finished: Finished, values: Values) -> Interval:
    plan = finished.resolved.plan
    return statistic_interval(
        lambda counts: over_conditions(values, counts),
        np.arange(values.shape[1]),
        seed=plan.seed,
        replicates=_REPLICATES,
        level=1.0 - plan.alpha,
    )


def _between(finished: Finished, a: Values, b: Values) -> Interval:
    plan = finished.resolved.plan
    return statistic_interval(
        lambda counts: over_conditions(a, counts) - over_conditions(b, counts),
        np.arange(a.shape[1]),
        seed=plan.seed,
        replicates=_REPLICATES,
        level=1.0 - plan.alpha,
    )
