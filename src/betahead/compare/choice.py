"""Selection on dev: which configuration each virtual search picks, for each thing that is measured."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from betahead.compare.plan import better_side
from betahead.compare.pool import searches_of
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.score import Scores

Dev = Mapping[str, Float[np.ndarray, "configurations seeds"]]


def dev_values(resolved: ResolvedPlan, scores: Scores) -> Dev:
    """What every configuration of a pool is worth on dev, by component and tuning seed.

    Args:
        resolved: the plan.
        scores: of the whole pool, configuration by configuration.
    """
    shape = (resolved.plan.pool.configurations, resolved.plan.pool.seeds)
    return {name: scores.of(name)[:, 0].reshape(shape) for name in (*scores.values, *scores.measured)}


def chosen_of(resolved: ResolvedPlan, cell: str, dev: Dev) -> Mapping[str, Int[np.ndarray, " finals"]]:
    """The configuration that the search behind each final picks: the best mean over tuning seeds, the first of equals.

    The best is the highest, or the lowest of a metric of which less is better.

    A metric of several components (gold at each KL) is selected for each of them, as a tuned frontier is.
    """
    searches = searches_of(resolved)
    found: dict[str, np.ndarray] = {}
    for metric in resolved.selected_metrics:
        sign = -1.0 if better_side(metric) == "lower" else 1.0
        for component in resolved.components(metric, cell):
            of_search = sign * dev[component].mean(axis=1)[searches]
            found[component] = np.take_along_axis(searches, of_search.argmax(axis=1)[:, None], axis=1)[:, 0]
    return found
