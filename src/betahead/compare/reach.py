"""What a plan can be expected to say before it runs: the chance of each verdict, for a spread that is known or wanted.

Assumed throughout: paired differences are normal and independent between finals, and nothing else of the family finds
anything, so that the p in question must reach alpha/family.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float

from betahead.compare.rules import Rules, Said, said_of
from betahead.stats.power import POWER, can_reach

_REPLAYS = 20_000
# Numbers that are drawn at most.
_DRAWN = 2_000_000
_LARGEST = 20.0
_TOLERANCE = 1e-3


@cache
def sds_for_better(finals: int, *, alpha: float, family: int) -> float:
    """The least effect of 2·ROPE, in SDs of the paired difference, that is called better with 80 % power.

    All conditions count at once: an interval above 0, a corrected p below alpha, an effect of at least the ROPE, and
    wins on at least ¾ of the finals. With few tests the wins need the most: 0.84 SDs for 20 finals, where the test
    alone needs 0.66.

    Args:
        finals: at least 2.
        alpha: level of the family.
        family: p-values that Holm corrects together.

    Returns:
        Infinity where no p-value can reach alpha/family.
    """
    if not can_reach(finals, comparisons=family, alpha=alpha):
        return math.inf

    def lacking(effect: float) -> bool:
        rules = Rules(rope=effect / 2.0, alpha=alpha)
        return chance_of_better(1.0, finals, rules, family=family) < POWER

    return _bound(lacking, 0.0, _LARGEST)


@cache
def sds_for_equivalent(finals: int, *, alpha: float, family: int) -> float:
    """The least ROPE, in SDs of the paired difference, at which no difference is called equivalent with 80 % power."""

    def lacking(rope: float) -> bool:
        return chance_of_equivalent(1.0, finals, Rules(rope=rope, alpha=alpha), family=family) < POWER

    return _bound(lacking, 1e-6, _LARGEST)


def chance_of_better(sd: float, finals: int, rules: Rules, *, family: int) -> float:
    """The chance that a difference of 2·ROPE with that spread is called better."""
    return float(np.mean(_said(2.0 * rules.rope / sd, rules.rope / sd, finals, rules, family).better))


def chance_of_equivalent(sd: float, finals: int, rules: Rules, *, family: int) -> float:
    """The chance that no difference, with that spread, is called equivalent."""
    return float(np.mean(_said(0.0, rules.rope / sd, finals, rules, family).equivalent))


def _said(effect: float, rope: float, finals: int, rules: Rules, family: int) -> Said:
    """The verdicts on replays of unit spread."""
    drawn = _noise(finals) + effect
    in_sds = Rules(rope=rope, alpha=rules.alpha)
    wins = (drawn > 0.0).mean(axis=1)
    return said_of(drawn.mean(axis=1), drawn.std(axis=1), wins, finals, in_sds, family=family)


@lru_cache(maxsize=2)
def _noise(finals: int) -> Float[np.ndarray, "replays finals"]:
    replays = min(_REPLAYS, _DRAWN // finals)
    return np.random.default_rng(0).standard_normal((replays, finals))


def _bound(lacking: Callable[[float], bool], low: float, high: float) -> float:
    while high - low > _TOLERANCE:
        middle = (low + high) / 2.0
        low, high = (middle, high) if lacking(middle) else (low, middle)
    return high
