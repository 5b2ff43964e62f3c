"""The panels of what is measured beside gold and KL: held-out pairs, answers, retention, label noise, compute."""

import numpy as np

from betahead.compare.judged import measured_finals, picked_rows
from betahead.compare.panel_records import ComputeRow, IntervalRecord, MeasureKind, MeasureRow, NoiseRow
from betahead.compare.plan import GOLD_METRICS
from betahead.compare.work import Finished
from betahead.stats.bootstrap import mean_interval
from betahead.worlds.measures import MEASURES

_REPLICATES = 500


def measure_rows(finished: Finished) -> list[MeasureRow]:
    """Every measure of every cell and method, in the finals that the primary metric picked."""
    rows: list[MeasureRow] = []
    for (cell, method), (_, scores) in finished.finals.items():
        for measure in scores.measured:
            values = measured_finals(finished, cell, method, measure)
            there = values[np.isfinite(values)]
            value = _interval(finished, there) if len(there) else None
            rows.append(MeasureRow(cell=cell, method=method, measure=measure, finals=len(there), value=value))
    return rows


def measure_kinds(finished: Finished) -> list[MeasureKind]:
    """What is known of measures, with the cells that do not have them."""
    has: dict[str, set[str]] = {}
    for (cell, _), (_, scores) in finished.finals.items():
        has.setdefault(cell, set()).update(scores.measured)
    return [
        MeasureKind(
            measure=name,
            unit=measure.unit,
            group=measure.group,
            better=measure.better,
            summary=measure.summary,
            not_in=[cell for cell, names in has.items() if name not in names],
        )
        for name, measure in MEASURES.items()
    ]


def noise_rows(finished: Finished) -> list[NoiseRow]:
    """The effect of each comparison on the prompts of topics with the same label noise.

    They are the same runs, read topic by topic: what a method does where labels are noisy it does in one training with
    what it does elsewhere. A measure is not read by topic, so a plan about one has no such rows.
    """
    plan = finished.resolved.plan
    if plan.metric.primary not in GOLD_METRICS:
        return []
    rows: list[NoiseRow] = []
    for cell in plan.cells:
        noise = np.array(finished.finals[cell, plan.comparisons[0].a][1].topic_noise)
        for one in plan.comparisons:
            gain = _by_topic(finished, cell, one.a) - _by_topic(finished, cell, one.b)
            for level in np.unique(noise):
                alike = gain[:, noise == level]
                rows.append(
                    NoiseRow(
                        cell=cell,
                        a=one.a,
                        b=one.b,
                        noise=float(level),
                        topics=alike.shape[1],
                        effect=_interval(finished, alike.mean(axis=1)),
                    )
                )
    return rows


def _by_topic(finished: Finished, cell: str, method: str) -> np.ndarray:
    """The primary metric of each final on the prompts of each topic."""
    scores = finished.finals[cell, method][1]
    rows = picked_rows(finished, cell, method, finished.resolved.plan.metric.primary)
    return np.mean([scores.by_topic[at, scores.place(component)] for component, at in rows.items()], axis=0)


def compute_rows(finished: Finished) -> list[ComputeRow]:
    """What the runs of each method cost."""
    plan = finished.resolved.plan
    rows: list[ComputeRow] = []
    for method in plan.methods:
        pools = [finished.pools[cell, method] for cell in plan.cells]
        finals = [finished.finals[cell, method][1] for cell in plan.cells]
        runs = sum(len(scores.finite) for scores in (*pools, *finals))
        tokens = [scores.of("trained_tokens") for scores in finals if "trained_tokens" in scores.measured]
        trained = np.concatenate(tokens) if tokens else np.empty(0)
        trained = trained[np.isfinite(trained)]
        rows.append(
            ComputeRow(
                method=method,
                runs=runs,
                seconds=sum(scores.seconds for scores in (*pools, *finals)) / runs,
                tokens=float(trained.mean()) if len(trained) else None,
                peak_gib=max(scores.peak_gib for scores in (*pools, *finals)),
            )
        )
    return rows


def _interval(finished: Finished, of_finals: np.ndarray) -> IntervalRecord:
    plan = finished.resolved.plan
    return IntervalRecord.of(mean_interval(of_finals, seed=plan.seed, replicates=_REPLICATES, level=1.0 - plan.alpha))
