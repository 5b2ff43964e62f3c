"""The pool of each method: the same points on the axes that all share, draws of their own on the rest.

A method with more knobs gets no extra trials; sharing the draws of the common ones takes most of the luck of a search
out of the difference between two methods.
"""

import hashlib
import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import qmc

from betahead.compare.plan import Range
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.spaces import refuse_outside

SHARED = ("learning_rate", "beta")

Configuration = Mapping[str, float]


def pool_of(resolved: ResolvedPlan, method: str) -> tuple[Configuration, ...]:
    """The Q configurations of a method; those that the plan includes come first.

    An axis of one's own is drawn by its name: a method and its placebo have the same knobs, so the same configurations.
    Where no two searches share a configuration, every one of them has those that the plan includes.

    Source:
        scrambled Sobol' points: Owen 1998, Journal of Complexity 14, 466–489; strata: McKay, Beckman and Conover 1979,
        Technometrics 21, 239–245; common draws: Bouthillier et al. 2021, https://arxiv.org/abs/2103.03098.
    """
    plan, space = resolved.plan, resolved.spaces[method]
    count = plan.pool.configurations
    columns = dict(zip(SHARED, _points(count, len(SHARED), plan.seed).T, strict=True))
    columns |= {name: _strata(count, plan.seed, name) for name in space if name not in SHARED}
    drawn = [{name: _value(space[name], columns[name][row]) for name in space} for row in range(count)]
    included = [dict(one) for one in plan.methods[method].include]
    every = plan.pool.trials if plan.searches.scope == "configurations" else count
    configurations = tuple(
        included[number % every] if number % every < len(included) else drawn[number] for number in range(count)
    )
    for number, configuration in enumerate(configurations):
        refuse_outside(configuration, space, f"pool of {method}, configuration {number}")
    return configurations


def searches_of(resolved: ResolvedPlan) -> Int[np.ndarray, "finals trials"]:
    """The virtual search behind each final: n of the Q configurations, the same ones for every method and cell.

    Every final repeats search and training. With Q ≥ n × finals search i takes the i-th n points, and no other search
    sees those or their tuning seeds: what a search happens to draw is then inside the spread between finals, and
    intervals and p-values hold for other configurations. The points are even over the whole pool, so finals are a
    little less alike than independent ones, and the intervals if anything too wide.

    With fewer points searches overlap. The Q points and the luck of their tuning seeds are then common to all finals,
    and intervals and p-values are about this pool alone. With n = Q all searches are one, and its luck is shared too.
    """
    plan = resolved.plan
    if plan.searches.scope == "configurations":
        return np.arange(plan.finals.seeds * plan.pool.trials).reshape(plan.finals.seeds, plan.pool.trials)
    rng = np.random.default_rng([plan.seed, 1])
    drawn = [rng.permutation(plan.pool.configurations)[: plan.pool.trials] for _ in range(plan.finals.seeds)]
    return np.sort(np.stack(drawn), axis=1)


def _points(count: int, axes: int, seed: int) -> Float[np.ndarray, "configurations axes"]:
    """Points of the unit cube; whole powers of two are drawn, so that they are balanced, and the first ones kept."""
    sobol = qmc.Sobol(axes, scramble=True, rng=np.random.default_rng(seed))
    return sobol.random_base2(math.ceil(math.log2(count)))[:count]


def _strata(count: int, seed: int, name: str) -> Float[np.ndarray, " configurations"]:
    """One point in each of `count` equal parts of [0, 1], in an order of its own."""
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
    rng = np.random.default_rng([seed, 2, number])
    return (rng.permutation(count) + rng.random(count)) / count


def _value(axis: Range, share: float) -> float:
    if axis.log:
        value = math.exp(math.log(axis.low) + share * math.log(axis.high / axis.low))
    else:
        value = axis.low + share * (axis.high - axis.low)
    return min(max(value, axis.low), axis.high)
