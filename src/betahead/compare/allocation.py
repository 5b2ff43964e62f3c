"""β of each topic at the end of training, and how far it goes the way that the oracle of the world goes."""

import numpy as np
from jaxtyping import Float

from betahead.compare.cells import oracle_of_topics
from betahead.compare.panel_records import AllocationRow, BetaRow, IntervalRecord
from betahead.compare.work import Finished
from betahead.stats.bootstrap import mean_interval

_REPLICATES = 500


def topic_betas(finished: Finished, cell: str, method: str) -> list[float]:
    """β of each topic at the end of the finals, the geometric mean over runs; empty where prompts have none."""
    log_beta = _log_beta(finished, cell, method)[0]
    return np.exp(log_beta.mean(axis=0)).tolist() if len(log_beta) else []


def beta_rows(finished: Finished) -> list[BetaRow]:
    """β of every topic, and over the geometric mean of the topics, beside what the oracle has there."""
    rows: list[BetaRow] = []
    for cell, method in finished.finals:
        betas = topic_betas(finished, cell, method)
        oracle = oracle_of_topics(finished.resolved.worlds[cell])
        mean = float(np.exp(np.mean(np.log(betas)))) if betas else 1.0
        rows += [
            BetaRow(
                cell=cell,
                method=method,
                topic=topic + 1,
                beta=beta,
                relative=beta / mean,
                oracle=None if oracle is None else oracle[topic],
            )
            for topic, beta in enumerate(betas)
        ]
    return rows


def allocation_rows(finished: Finished) -> list[AllocationRow]:
    """How far log β of a method's finals lies along the oracle's: 1 as far, 0 not at all, below 0 the other way.

    The slope of the topics' log β over the oracle's, both about their means, for each final.
    """
    rows: list[AllocationRow] = []
    plan = finished.resolved.plan
    for cell, method in finished.finals:
        oracle = oracle_of_topics(finished.resolved.worlds[cell])
        log_beta, seeds = _log_beta(finished, cell, method)
        if oracle is None or not len(log_beta):
            continue
        towards = np.log(oracle) - np.mean(np.log(oracle))
        length = float(towards @ towards)
        slopes = (log_beta - log_beta.mean(axis=1, keepdims=True)) @ towards / length if length > 0.0 else None
        rows.append(
            AllocationRow(
                cell=cell,
                method=method,
                towards_oracle=None
                if slopes is None
                else IntervalRecord.of(
                    mean_interval(slopes, seeds, seed=plan.seed, replicates=_REPLICATES, level=1.0 - plan.alpha)
                ),
            )
        )
    return rows


def _log_beta(
    finished: Finished, cell: str, method: str
) -> tuple[Float[np.ndarray, "runs topics"], Float[np.ndarray, " runs"]]:
    """log β of the finals that have one for each topic, and the seed of each."""
    runs, scores = finished.finals[cell, method]
    usable = scores.finite & np.isfinite(scores.log_beta).all(axis=1) & (scores.log_beta.shape[1] > 0)
    return scores.log_beta[usable], np.array([seed for _, seed in runs], dtype=np.float64)[usable]
