"""What a verdict needs, fixed beforehand, and the verdicts on many replays of a test at once."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import stdtr, stdtrit

from betahead.stats.bootstrap import REPLICATES
from betahead.stats.paired import EXACT_UNITS, FLIPS

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]

# How often A must win on a fresh unit for "better" to mean something to one person with one run.
LEAST_WIN_PROBABILITY = 0.75


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What was fixed beforehand.

    Args:
        rope: the smallest effect worth having.
        alpha: level of the family.
        seed: of the resamples.
        replicates: resamples.
    """

    rope: float
    alpha: float = 0.05
    seed: int = 0
    replicates: int = REPLICATES


@dataclass(frozen=True, eq=False)
class Said:
    """What is said of each of many replays; of those in none of the three nothing can be said."""

    better: Bool[np.ndarray, "*replays"]
    worse: Bool[np.ndarray, "*replays"]
    equivalent: Bool[np.ndarray, "*replays"]


def said_of(
    mean: Float[np.ndarray, "*replays"],
    spread: Float[np.ndarray, "*replays"],
    wins: Float[np.ndarray, "*replays"],
    finals: Float[np.ndarray, "*replays"] | int,
    rules: Rules,
    *,
    family: int,
    of_prompts: float = 0.0,
    prompts: int = 1,
) -> Said:
    """The whole verdict on many replays: interval, effect, p after Holm, wins, and the interval of equivalence.

    `verdict.decide` resamples and flips signs for one test; here both are formulas, so that thousands of replays of a
    plan take a moment. The tests compare the two.

    Args:
        mean: of the differences.
        spread: their standard deviation over finals, with n below.
        wins: share of the finals that A wins.
        finals: how many there are.
        rules: fixed beforehand.
        family: p-values that Holm corrects together, of which this one is held to alpha/family, as the smallest is.
        of_prompts: standard error of the mean that all finals share, because they share prompts.
        prompts: how many.

    Source:
        This package. Interval: that of Student's t with the degrees of freedom of `stats.paired.paired_interval`,
        whose resamples have this spread; p: the t test that a sign-flip test of many units tends to, and never below
        the `smallest_p` that it can show.
    """
    n = np.asarray(finals, dtype=np.float64)
    of_finals = np.square(spread) / (n - 1.0)
    variance = of_finals + of_prompts**2
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0.0, 0.0, np.abs(mean) / np.sqrt(of_finals))
        share = np.where(variance > 0.0, of_finals / variance, 1.0)
    p = np.maximum(2.0 * stdtr(n - 1.0, -t), np.where(n <= EXACT_UNITS, 2.0 ** (1.0 - n), 1.0 / (1 + FLIPS)))
    error = np.sqrt(variance)
    freedom = 1.0 / (share**2 / (n - 1.0) + (1.0 - share) ** 2 / max(prompts - 1, 1))
    clear = (np.abs(mean) > stdtrit(freedom, 1.0 - rules.alpha / 2.0) * error) & (np.abs(mean) >= rules.rope)
    clear &= p * family < rules.alpha
    better = clear & (mean > 0.0) & (wins >= LEAST_WIN_PROBABILITY)
    worse = clear & (mean < 0.0) & (1.0 - wins >= LEAST_WIN_PROBABILITY)
    inside = np.abs(mean) + stdtrit(freedom, 1.0 - rules.alpha) * error < rules.rope
    return Said(better=better, worse=worse, equivalent=inside & ~better & ~worse)
