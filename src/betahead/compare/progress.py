"""How much of a comparison is left, while it runs."""

from dataclasses import dataclass

from betahead.compare.board import Standing
from betahead.compare.forecast import duration
from betahead.compare.resolved import ResolvedPlan


@dataclass(frozen=True, kw_only=True)
class Left:
    """Runs in all, as far as is known, and the time left in words."""

    runs_in_all: int
    sentence: str


def time_left(resolved: ResolvedPlan, standing: Standing) -> Left:
    """The runs that are up, and finals that are not known yet as one per final, cell and method and component.

    The time of a run is that of those that are done, shared by the workers that are running now.
    """
    plan = resolved.plan
    pool = len(plan.cells) * len(plan.methods) * plan.pool.configurations * plan.pool.seeds
    runs = standing.up
    if standing.up <= pool:
        components = sum(
            len(resolved.components(name, cell)) for name in resolved.selected_metrics for cell in plan.cells
        )
        runs = pool + len(plan.methods) * plan.finals.seeds * components
    if standing.done == 0:
        return Left(runs_in_all=runs, sentence="")
    seconds = (runs - standing.done) * standing.seconds / standing.done / max(1, standing.running)
    return Left(runs_in_all=runs, sentence=f"about {duration(seconds)} left")
