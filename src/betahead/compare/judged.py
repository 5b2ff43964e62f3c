"""The tests and claims of a finished comparison, judged by the rules of its plan."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from betahead.compare.plan import ComparisonSection, MetricName, better_side
from betahead.compare.resolved import ResolvedPlan, Role, Test
from betahead.compare.rules import Rules, Verdict
from betahead.compare.verdict import NO_BETTER, Decision, MechanismVerdict, decide, mechanism
from betahead.compare.work import Finished


@dataclass(frozen=True, kw_only=True)
class ClaimInCell:
    """What a claim's tests say in one cell; the opponents of a mechanism are B, its parent and its placebo.

    Args:
        no_better_than: of a mechanism that is not shown: the roles of those that are as good or better.
    """

    cell: str
    verdict: Verdict | MechanismVerdict
    against: Mapping[str, Verdict]
    no_better_than: tuple[Role, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """Decisions by test and cell, and what each claim comes to."""

    decisions: Mapping[tuple[Test, str], Decision]
    claims: tuple[tuple[ComparisonSection, tuple[ClaimInCell, ...]], ...]


def rules_of(resolved: ResolvedPlan) -> Rules:
    """The rules that the plan fixed."""
    plan = resolved.plan
    return Rules(rope=plan.rope, alpha=plan.alpha, seed=plan.seed)


def judge(finished: Finished) -> Judged:
    """Decide every test on the primary metric, then every claim in every cell."""
    resolved = finished.resolved
    plan = resolved.plan
    # A test whose answer is known beforehand is decided by itself: it must cost the others nothing.
    families = [*resolved.families, *((key,) for key in sorted(resolved.left_out, key=str))]
    decided = decide(
        [[differences(finished, cell, test, plan.metric.primary) for test, cell in family] for family in families],
        rules_of(resolved),
    )
    found = {
        key: decision
        for family, its in zip(families, decided, strict=True)
        for key, decision in zip(family, its, strict=True)
    }
    decisions = {(test, cell): found[test, cell] for cell in plan.cells for test in resolved.tests}
    claims = tuple(
        (one, tuple(_in_cell(resolved, one, cell, decisions) for cell in plan.cells)) for one in plan.comparisons
    )
    return Judged(decisions=decisions, claims=claims)


def differences(finished: Finished, cell: str, test: Test, metric: MetricName) -> Float[np.ndarray, "finals units"]:
    """By how much A is better than B on every final: what the same virtual search won for each, on the same seed.

    A minus B, but B minus A for a metric of which less is better.
    """
    a, b = (final_values(finished, cell, method, metric) for method in (test.a, test.b))
    return b - a if better_side(metric) == "lower" else a - b


def final_values(finished: Finished, cell: str, method: str, metric: MetricName) -> Float[np.ndarray, "finals units"]:
    """What each final of a method is worth: the mean over the metric's components, each with its own configuration.

    A measure that is not the primary metric is read in the runs that were picked for that, where that is read.
    """
    resolved = finished.resolved
    if metric not in resolved.selected_metrics:
        return measured_finals(finished, cell, method, metric)[:, None]
    scores = finished.finals[cell, method][1]
    rows = picked_rows(finished, cell, method, metric)
    return np.mean([scores.of(component)[at] for component, at in rows.items()], axis=0)


def measured_finals(finished: Finished, cell: str, method: str, measure: str) -> Float[np.ndarray, " finals"]:
    """A measure of each final where the primary metric is read, the mean over that metric's components."""
    scores = finished.finals[cell, method][1]
    rows = picked_rows(finished, cell, method, finished.resolved.plan.metric.primary)
    parts = [scores.measured[measure][at, scores.place(component)] for component, at in rows.items()]
    return np.mean(parts, axis=0)


def picked_rows(finished: Finished, cell: str, method: str, metric: MetricName) -> Mapping[str, list[int]]:
    """For each component of a metric: the final run that each search's pick became, as a row of the finals' scores."""
    resolved = finished.resolved
    row_of = {run: row for row, run in enumerate(finished.finals[cell, method][0])}
    chosen = finished.chosen[cell, method]
    return {
        component: [
            row_of[int(number), seed] for number, seed in zip(chosen[component], resolved.final_seeds, strict=True)
        ]
        for component in resolved.components(metric, cell)
    }


def _in_cell(
    resolved: ResolvedPlan, one: ComparisonSection, cell: str, decisions: Mapping[tuple[Test, str], Decision]
) -> ClaimInCell:
    against: dict[str, Verdict] = {
        other: decisions[Test(a=one.a, b=other), cell].verdict for other in resolved.opponents(one)
    }
    if one.claim != "mechanism":
        return ClaimInCell(cell=cell, verdict=against[one.b], against=against)
    roles = resolved.roles(one)
    short: tuple[Role, ...] = tuple(role for other, role in roles.items() if against[other] in NO_BETTER)
    return ClaimInCell(cell=cell, verdict=mechanism(against), against=against, no_better_than=short)
