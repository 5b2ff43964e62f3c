"""How large an effect must be, in SDs of the paired difference, for the whole verdict "better", not one test of it."""

import math
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.special import stdtr

from betahead.compare.verdict import LEAST_WIN_PROBABILITY
from betahead.stats.power import POWER, can_reach

_REPLAYS = 20_000
_LARGEST = 20.0
_TOLERANCE = 1e-3


@cache
def sds_for_better(finals: int, *, alpha: float, family: int) -> float:
    """The least effect of 2·ROPE, in SDs of the paired difference, that is called better with 80 % power.

    All conditions count at once: a corrected p below alpha, an effect of at least the ROPE, and wins on at least ¾ of
    the finals. With few tests the wins need the most: 0.84 SDs for 20 finals, where the test alone needs 0.66.

    Args:
        finals: at least 2.
        alpha: level of the family.
        family: p-values that Holm corrects together.

    Returns:
        Infinity where no p-value can reach alpha/family.
    """
    if not can_reach(finals, comparisons=family, alpha=alpha):
        return math.inf
    noise = np.random.default_rng(0).standard_normal((_REPLAYS, finals))
    low, high = 0.0, _LARGEST
    while high - low > _TOLERANCE:
        middle = (low + high) / 2.0
        low, high = (low, middle) if _share_better(noise, middle, alpha / family) >= POWER else (middle, high)
    return high


def _share_better(noise: Float[np.ndarray, "replays finals"], effect: float, level: float) -> float:
    drawn = noise + effect
    finals = noise.shape[1]
    mean = drawn.mean(axis=1)
    t = mean / (drawn.std(axis=1, ddof=1) / math.sqrt(finals))
    p = 2.0 * stdtr(finals - 1, -np.abs(t))
    wins = (drawn > 0.0).mean(axis=1)
    return float(np.mean((p < level) & (mean >= effect / 2.0) & (wins >= LEAST_WIN_PROBABILITY)))
