"""Can this plan find what it looks for? Detectable effects, reachable p-values, and the runs that settle a question.

A unit is one independent pair of runs; its SD is that of the difference between units. Noise that all units share, such
as the choice of one test set, is not in that SD and does not shrink with more units.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Literal, cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from betahead.stats.paired import EXACT_UNITS, smallest_p

ALPHA = 0.05
POWER = 0.8

# Nodes of the integral over the SD that the units happen to show.
_NODES = 512


def can_reach(units: int, *, comparisons: int = 1, alpha: float = ALPHA) -> bool:
    """Whether a sign-flip test of so many units can reach alpha after Holm: `smallest_p` ≤ alpha/comparisons.

    The smallest of k p-values must reach alpha/k; a plan for which this is False cannot say "better", whatever happens.
    More than `EXACT_UNITS` fail again where k is thousands, because their p is one of random flips.

    Source:
        Holm 1979; `sign_flip_p`.
    """
    assert comparisons >= 1 and 0.0 < alpha < 1.0, (comparisons, alpha)
    return smallest_p(units) <= alpha / comparisons


def smallest_units(*, comparisons: int = 1, alpha: float = ALPHA) -> int:
    """The fewest units for which `can_reach` holds: 6 for one comparison at .05, 8 for five; `EXACT_UNITS` at most.

    Source:
        As for `can_reach`.
    """
    units = 1
    while units < EXACT_UNITS and not can_reach(units, comparisons=comparisons, alpha=alpha):
        units += 1
    return units


def minimum_detectable_effect(
    sd: float,
    units: int,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
    comparisons: int = 1,
    distribution: Literal["t", "normal"] = "t",
) -> float:
    """The true mean difference that a two-sided paired test finds with the given power.

    `t`: the difference at which the non-central t distribution gives that power, for an SD estimated from the units
    themselves. `normal`: (z₁₋ₐ/₂ + z_power)·sd/√n with a = alpha/comparisons, which leaves out the chance of finding
    the wrong sign.

    Args:
        sd: of the differences between units, at least 0.
        units: at least 2.
        alpha: level of the family of tests.
        power: in (alpha/comparisons, 1).
        comparisons: tests in the family; Holm holds the smallest p-value to alpha/comparisons.
        distribution: `normal` where the SD is known or the units are very many, as with 805 prompts.

    Returns:
        An effect in the unit of sd: 0.996 for sd 1 and 10 units; 2.80·sd/√n under `normal`.

    Source:
        Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, chapter 2; Bloom 1995, Evaluation Review 19,
        547–556.
    """
    _check(sd, units, alpha, comparisons)
    level = alpha / comparisons
    assert level < power < 1.0, (power, level)
    error = sd / math.sqrt(units)
    return error * (_shift(level, power) if distribution == "normal" else _noncentrality(units, level, power))


def detection_power(effect: float, sd: float, units: int, *, alpha: float = ALPHA, comparisons: int = 1) -> float:
    """The chance that a two-sided paired t test finds a true mean difference, at alpha/comparisons.

    Returns:
        alpha/comparisons at effect 0; 0.803 at one sd with 10 units and alpha .05. The same for ±effect.

    Source:
        As for `minimum_detectable_effect`.
    """
    _check(sd, units, alpha, comparisons)
    if sd == 0.0:
        return 1.0 if effect else alpha / comparisons
    critical = float(stdtrit(units - 1, 1.0 - alpha / comparisons / 2.0))
    return _two_sided(abs(effect) * math.sqrt(units) / sd, units - 1, critical)


def equivalence_power(rope: float, sd: float, units: int, *, effect: float = 0.0, alpha: float = ALPHA) -> float:
    """The chance that two one-sided paired t tests call a true difference equivalent within ±rope.

    Args:
        rope: half the width of the region, above 0.
        sd: of the differences between units.
        units: at least 2.
        effect: the true difference.
        alpha: of each one-sided test; the interval is of level 1 − 2·alpha.

    Returns:
        At most alpha for an effect of ±rope or beyond; towards 1 with the number of units inside.

    Source:
        Schuirmann 1987; power as an integral over the SD: Phillips 1990, Journal of Pharmacokinetics and
        Biopharmaceutics 18, 137–144.
    """
    _check(sd, units, alpha, 1)
    assert rope > 0.0, rope
    if sd == 0.0:
        return float(abs(effect) < rope)
    root = math.sqrt(units) / sd
    # The mean must stay this many standard errors inside the region, which an unlucky SD makes impossible.
    retreat = float(stdtrit(units - 1, 1.0 - alpha)) * _shown_sds(units - 1)
    inside = ndtr((rope - effect) * root - retreat) - ndtr(-(rope + effect) * root + retreat)
    return float(_quadrature()[1] @ np.maximum(inside, 0.0))


def units_to_detect(
    effect: float, sd: float, *, alpha: float = ALPHA, power: float = POWER, comparisons: int = 1
) -> int:
    """The fewest units that find a true difference with the given power: 10 for a difference of one sd.

    Source:
        As for `minimum_detectable_effect`.
    """
    assert effect != 0.0, "no number of units finds a difference of 0"
    return _fewest(lambda n: detection_power(effect, sd, n, alpha=alpha, comparisons=comparisons), power)


def units_to_show_equivalence(
    rope: float, sd: float, *, effect: float = 0.0, alpha: float = ALPHA, power: float = POWER
) -> int:
    """The fewest units that call a true difference inside ±rope (none, by default) equivalent with the given power.

    Source:
        As for `equivalence_power`.
    """
    assert abs(effect) < rope, f"no number of units shows that {effect} lies inside ±{rope}"
    return _fewest(lambda n: equivalence_power(rope, sd, n, effect=effect, alpha=alpha), power)


def units_to_settle(
    sd: float, *, effect: float, rope: float, alpha: float = ALPHA, power: float = POWER, comparisons: int = 1
) -> int:
    """The fewest units with which an inconclusive comparison ends, be the true difference 0 or ±effect.

    The most of three: to detect the effect, to show equivalence if there is none, and to let the sign-flip test reach
    its level at all. A true difference in between can stay inconclusive for ever.

    Args:
        sd: of the differences between units, as measured so far.
        effect: the difference that must not be missed, such as 2·rope.
        rope: the smallest difference worth having.
        alpha: level of the family of tests, and of each one-sided test of equivalence.
        power: wanted in either case.
        comparisons: tests in the family.

    Returns:
        At least `smallest_units`; 11 for sd 1, effect 2 and rope 1.

    Source:
        As for `minimum_detectable_effect` and `equivalence_power`.
    """
    return max(
        smallest_units(comparisons=comparisons, alpha=alpha),
        units_to_detect(effect, sd, alpha=alpha, power=power, comparisons=comparisons),
        units_to_show_equivalence(rope, sd, alpha=alpha, power=power),
    )


def _check(sd: float, units: int, alpha: float, comparisons: int) -> None:
    assert sd >= 0.0 and units >= 2, (sd, units)
    assert comparisons >= 1 and 0.0 < alpha < 1.0, (comparisons, alpha)


def _shift(level: float, power: float) -> float:
    """How many standard errors are found with that power where the SD is known."""
    return float(ndtri(1.0 - level / 2.0) + ndtri(power))


# Many tests ask for the same few numbers.
@lru_cache(maxsize=1024)
def _noncentrality(units: int, level: float, power: float) -> float:
    """The same where so many units show the SD themselves."""
    critical = float(stdtrit(units - 1, 1.0 - level / 2.0))

    def lacking(noncentrality: float) -> float:
        return _two_sided(noncentrality, units - 1, critical) - power

    high = _shift(level, power)
    while lacking(high) < 0.0:
        high *= 2.0
    return cast("float", brentq(lacking, 0.0, high, xtol=1e-10))


def _two_sided(noncentrality: float, df: int, critical: float) -> float:
    """P(|T| > critical) of the non-central t distribution; scipy's own is nan far out in the tails."""
    edge = critical * _shown_sds(df)
    return float(_quadrature()[1] @ (ndtr(noncentrality - edge) + ndtr(-noncentrality - edge)))


@lru_cache(maxsize=1024)
def _shown_sds(df: int) -> Float[np.ndarray, " nodes"]:
    """The SD that units of true SD 1 show, at the nodes of `_quadrature` as its quantiles."""
    return np.sqrt(chdtri(df, 1.0 - _quadrature()[0]) / df)


@cache
def _quadrature() -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Nodes and weights of Gauss and Legendre on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1.0) / 2.0, weights / 2.0


def _fewest(power_of: Callable[[int], float], power: float) -> int:
    """The smallest n ≥ 2 whose power suffices, for a power that grows with n."""
    low, high = 1, 2
    while power_of(high) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high
