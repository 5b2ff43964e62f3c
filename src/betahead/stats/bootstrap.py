"""Percentile bootstrap intervals when rows come in clusters: pairs of one prompt are alike, prompts are independent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

REPLICATES = 2000
LEVEL = 0.95

# Entries of a block of resampled clusters; larger blocks are no faster and only need more memory.
_BLOCK = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the interval that resampling gives it; no bounds (None) where there is a single cluster."""

    estimate: float
    low: float | None
    high: float | None


def mean_interval(
    values: Float[np.ndarray, " rows"],
    clusters: Sequence[str] | Shaped[np.ndarray, " rows"] | None = None,
    *,
    seed: int,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval:
    """The mean over rows with its percentile bootstrap interval, resampling whole clusters.

    The same seed and clusters give the same resamples, so the interval of a difference of two columns is a paired one.

    Args:
        values: one finite number per row.
        clusters: what each row belongs to, such as its prompt; None makes every row a cluster of its own.
        seed: of a generator of its own.
        replicates: resamples drawn.
        level: the share of replicates inside the interval, in (0, 1).

    Returns:
        The plain mean over rows, and the quantiles (1 ∓ level)/2 of the means of the resamples.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile interval); Davison and
        Hinkley 1997, Bootstrap Methods and their Application, section 3.8 (resampling clusters whole).
    """
    assert np.isfinite(values).all(), "the values of a mean must be finite"
    members = _members(clusters, len(values))
    count = int(members.max()) + 1
    # Rows of a cluster always come together, so their sums and sizes are all that a mean needs.
    sums = np.bincount(members, weights=values, minlength=count)
    sizes = np.bincount(members, minlength=count).astype(np.float64)
    return _interval(
        float(np.mean(values)),
        lambda drawn: (drawn @ sums) / (drawn @ sizes),
        clusters=count,
        seed=seed,
        replicates=replicates,
        level=level,
    )


def statistic_interval(
    statistic: Callable[[Float[np.ndarray, "replicates rows"]], Float[np.ndarray, " replicates"]],
    clusters: Sequence[str] | Shaped[np.ndarray, " rows"],
    *,
    seed: int,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> Interval:
    """Any statistic of per-row arrays with its percentile bootstrap interval, resampling whole clusters.

    Args:
        statistic: from how often each row counts (all 1 for the data itself) to the value of each replicate; a ratio of
            means is `lambda w: (w @ a) / (w @ b)`.
        clusters: what each row belongs to.
        seed: of a generator of its own.
        replicates: resamples drawn.
        level: the share of replicates inside the interval, in (0, 1).

    Source:
        As for `mean_interval`.
    """
    members = _members(clusters, len(clusters))
    estimate = float(statistic(np.ones((1, len(members))))[0])
    return _interval(
        estimate,
        lambda drawn: statistic(drawn[:, members]),
        clusters=int(members.max()) + 1,
        seed=seed,
        replicates=replicates,
        level=level,
        width=len(members),
    )


def statistics_intervals(
    statistics: Callable[[Float[np.ndarray, "replicates rows"]], Float[np.ndarray, "replicates statistics"]],
    clusters: Sequence[str] | Shaped[np.ndarray, " rows"],
    *,
    seed: int,
    replicates: int = REPLICATES,
    level: float = LEVEL,
) -> list[Interval]:
    """Several statistics from the same resamples, each with its percentile interval, resampling whole clusters.

    Args:
        statistics: as for `statistic_interval`, a column for each.
        clusters: what each row belongs to.
        seed: of a generator of its own.
        replicates: resamples drawn.
        level: the share of replicates inside an interval, in (0, 1).

    Returns:
        One interval a column; each is what `statistic_interval` gives for it with the same seed.

    Source:
        As for `mean_interval`.
    """
    members = _members(clusters, len(clusters))
    estimates = statistics(np.ones((1, len(members))))[0]
    count = int(members.max()) + 1
    if count == 1:
        return [Interval(estimate=float(value), low=None, high=None) for value in estimates]
    found = _replicated(
        lambda drawn: statistics(drawn[:, members]),
        clusters=count,
        seed=seed,
        replicates=replicates,
        width=len(members),
    )
    lows, highs = np.quantile(found, _tails(level), axis=0)
    return [
        Interval(estimate=float(value), low=float(low), high=float(high))
        for value, low, high in zip(estimates, lows, highs, strict=True)
    ]


def _members(clusters: Sequence[str] | np.ndarray | None, rows: int) -> Int[np.ndarray, " rows"]:
    """The number of each row's cluster, counted from 0."""
    assert rows > 0, "an interval needs at least one row"
    if clusters is None:
        return np.arange(rows)
    assert len(clusters) == rows, (len(clusters), rows)
    return np.unique(np.asarray(clusters), return_inverse=True)[1]


def _interval(
    estimate: float,
    replicate: Callable[[Float[np.ndarray, "replicates clusters"]], Float[np.ndarray, " replicates"]],
    *,
    clusters: int,
    seed: int,
    replicates: int,
    level: float,
    width: int = 0,
) -> Interval:
    tails = _tails(level)
    if clusters == 1:
        return Interval(estimate=estimate, low=None, high=None)
    found = _replicated(replicate, clusters=clusters, seed=seed, replicates=replicates, width=width)
    low, high = np.quantile(found, tails)
    return Interval(estimate=estimate, low=float(low), high=float(high))


def _tails(level: float) -> list[float]:
    assert 0.0 < level < 1.0, level
    return [(1 - level) / 2, (1 + level) / 2]


def _replicated(
    replicate: Callable[[Float[np.ndarray, "replicates clusters"]], np.ndarray],
    *,
    clusters: int,
    seed: int,
    replicates: int,
    width: int,
) -> Float[np.ndarray, "..."]:
    assert replicates > 0, replicates
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(clusters, width))
    found: list[np.ndarray] = []
    for start in range(0, replicates, block):
        found.append(replicate(_draws(rng, min(block, replicates - start), clusters)))
    return np.concatenate(found)


def _draws(rng: np.random.Generator, replicates: int, clusters: int) -> Float[np.ndarray, "replicates clusters"]:
    """How often each cluster is drawn when as many are drawn as there are: multinomial counts."""
    drawn = rng.integers(0, clusters, size=(replicates, clusters))
    # One count over all replicates: a binomial per cell, which `multinomial` draws, takes ten times as long.
    cells = (drawn + clusters * np.arange(replicates)[:, None]).ravel()
    counts = np.bincount(cells, minlength=replicates * clusters)
    return counts.reshape(replicates, clusters).astype(np.float64)
