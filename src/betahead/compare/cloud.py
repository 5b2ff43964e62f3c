"""The cloud of reward and KL that the pool of each method makes on dev, and its envelope."""

import numpy as np

from betahead.compare.panel_records import CloudRow, EnvelopeRow
from betahead.compare.pool import pool_of
from betahead.compare.work import Finished


def cloud_rows(finished: Finished) -> list[CloudRow]:
    """Every configuration of every pool at the end of training."""
    return [
        CloudRow(
            cell=cell,
            method=method,
            configuration=dict(configuration),
            reward=_number(reward),
            kl=_number(kl),
        )
        for cell, method in finished.pools
        for configuration, (reward, kl) in zip(
            pool_of(finished.resolved, method), _points(finished, cell, method)[:, -1], strict=True
        )
    ]


def envelope_rows(finished: Finished) -> list[EnvelopeRow]:
    """The points of each cloud, over all checkpoints, that no other of the same method beats at no more KL.

    A point is a configuration at a checkpoint, the mean over its tuning seeds. The best of many points of a noisy cloud
    flatters, more so where searches have tuning seeds of their own, whose luck is then in the points; all methods have
    as many points, on the same seeds.
    """
    rows: list[EnvelopeRow] = []
    for cell, method in finished.pools:
        shares = finished.pools[cell, method].checkpoints
        points = _points(finished, cell, method)
        places = [(number, at) for number in range(points.shape[0]) for at in range(points.shape[1])]
        places = [place for place in places if np.isfinite(points[place]).all()]
        highest = -np.inf
        for number, at in sorted(places, key=lambda place: (points[place][1], -points[place][0])):
            reward, kl = points[number, at]
            if reward > highest:
                highest = reward
                rows.append(
                    EnvelopeRow(
                        cell=cell,
                        method=method,
                        kl=float(kl),
                        reward=float(reward),
                        configuration=number,
                        share=shares[at],
                    )
                )
    return rows


def _points(finished: Finished, cell: str, method: str) -> np.ndarray:
    """Reward and KL of each configuration and checkpoint: means over the tuning seeds that are finite there."""
    plan = finished.resolved.plan
    path = finished.pools[cell, method].path[..., :2]
    by_seed = path.reshape(plan.pool.configurations, plan.pool.seeds, *path.shape[1:])
    there = np.isfinite(by_seed).all(axis=-1, keepdims=True)
    count = there.sum(axis=1)
    total = np.where(there, by_seed, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return float(value) if np.isfinite(value) else None
