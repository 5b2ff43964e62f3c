"""What smaller searches win on dev, from the runs of the pool alone."""

import numpy as np
from jaxtyping import Float

from betahead.compare.panel_records import BestOfNRow, IntervalRecord
from betahead.compare.plan import better_side
from betahead.compare.pool import searches_of
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.work import Finished
from betahead.stats.bootstrap import Interval
from betahead.stats.paired import paired_interval
from betahead.stats.selection import Pool, best_of_n_each, mean_best_of_n_interval

_REPLICATES = 500


def best_of_n_rows(finished: Finished) -> list[BestOfNRow]:
    """The best of n trials on dev for every cell and method.

    Where every search has tuning seeds of its own, n trials are taken from those of one search, and the interval is
    over searches: the best of trials on different seeds would be that on the kindest ones. Else they are taken from the
    whole pool, and the interval resamples it.
    """
    resolved = finished.resolved
    metric = resolved.plan.metric.primary
    sign = -1.0 if better_side(metric) == "lower" else 1.0
    rows: list[BestOfNRow] = []
    for (cell, method), dev in finished.dev.items():
        means = [sign * dev[name].mean(axis=1) for name in resolved.components(metric, cell)]
        for n in _counts(resolved):
            found = _value(resolved, means, n)
            value = IntervalRecord.of(found if sign > 0 else _negative(found))
            rows.append(BestOfNRow(cell=cell, method=method, n=n, value=value))
    return rows


def _counts(resolved: ResolvedPlan) -> list[int]:
    """Powers of two, what a search saw, and the most trials that can be taken."""
    pool = resolved.plan.pool
    most = pool.trials if resolved.plan.searches.seed_sets > 1 else pool.configurations
    return sorted({*(2**power for power in range(most.bit_length())), pool.trials, most})


def _value(resolved: ResolvedPlan, means: list[Float[np.ndarray, " configurations"]], n: int) -> Interval:
    plan = resolved.plan
    if plan.searches.seed_sets > 1:
        of_search = np.mean([best_of_n_each(mean[searches_of(resolved)], n) for mean in means], axis=0)
        return paired_interval(of_search[:, None], seed=plan.seed, replicates=_REPLICATES)
    pools = [Pool(dev=mean, test=mean) for mean in means]
    return mean_best_of_n_interval(pools, n, seed=plan.seed, replicates=_REPLICATES)


def _negative(found: Interval) -> Interval:
    low, high = (None if bound is None else -bound for bound in (found.high, found.low))
    return Interval(estimate=-found.estimate, low=low, high=high)
