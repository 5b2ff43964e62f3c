"""What a plan will cost and what it can find, before anything but one piece of work is run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from betahead.compare.judged import rules_of
from betahead.compare.plan import ComparisonSection
from betahead.compare.reach import chance_of_better, chance_of_equivalent, sds_for_better, sds_for_equivalent
from betahead.compare.resolved import ResolvedPlan, Test, family_sentence
from betahead.compare.scope import HOLDS, Scope
from betahead.compare.timing import timing
from betahead.stats.paired import smallest_p
from betahead.stats.power import POWER, minimum_detectable_effect

_ASSUMED = (
    "assumed of chances: differences are normal and independent between finals, the p in question is the smallest of "
    "its family, and the tests of a mechanism are independent; a verdict is reachable from a chance of 80 % on"
)


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What a comparison can be expected to say for one spread of the paired difference.

    Args:
        sd: of each test that the claim needs.
        found: the chance that its claim is upheld, were every difference 2·ROPE: all its tests say better.
        equivalent: the chance that no difference at all is called equivalent, in one test.
    """

    sd: float
    found: float
    equivalent: float


@dataclass(frozen=True, kw_only=True)
class ClaimForecast:
    """Which verdicts a comparison can reach.

    Args:
        tests: the pairs that its claim needs.
        chances: for the median SD of the plan, and the largest one, in a cell that is not among `same_runs`; none where
            no SD is known, or no such cell is there.
        same_runs: cells in which one of its tests is of the very same runs under another name, so that p is 1.
    """

    a: str
    b: str
    claim: str
    tests: int
    chances: tuple[Chance, ...]
    same_runs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Cost and power of a plan.

    Args:
        final_runs: at most; searches that pick the same configuration for several components share a run.
        basis: where the time of a run comes from.
        tests_per_family: p-values that Holm corrects together, in the largest family.
        family: what those are, in words.
        smallest_p: that so many finals can show.
        needed_p: that the smallest p-value of the family must reach.
        detectable_sds: the minimum detectable effect in SDs of the paired difference.
        detectable: the same in the metric's unit, where the plan states the SD.
        sd_for_better: the largest SD at which an effect of 2·ROPE is called better with 80 % power.
        sd_for_equivalent: the largest SD at which no difference is called equivalent with 80 % power.
        scope: what the intervals and p-values are about.
        configurations_for_all: so many give every final a search of its own.
    """

    name: str
    plan_hash: str
    pool_runs: int
    final_runs: int
    seconds: float
    seconds_per_run: float
    basis: str
    finals: int
    tests_per_family: int
    family: str
    smallest_p: float
    needed_p: float
    detectable_sds: float
    detectable: float | None
    sd_for_better: float
    sd_for_equivalent: float
    scope: Scope
    configurations_for_all: int
    claims: tuple[ClaimForecast, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def forecast(resolved: ResolvedPlan) -> Forecast:
    """The forecast of a plan; a few runs of its pool are made to time it, unless the plan states a time."""
    plan = resolved.plan
    places = len(plan.cells) * len(plan.methods)
    pool_runs = places * plan.pool.configurations * plan.pool.seeds
    of_method = {
        cell: plan.finals.seeds * min(plan.pool.trials, len(resolved.picked_components(cell))) for cell in plan.cells
    }
    final_runs = len(plan.methods) * sum(of_method.values())
    took = timing(resolved, of_method)
    finals, family = plan.finals.seeds, resolved.family
    sds = minimum_detectable_effect(1.0, finals, alpha=plan.alpha, comparisons=family)
    return Forecast(
        name=plan.name,
        plan_hash=resolved.hash,
        pool_runs=pool_runs,
        final_runs=final_runs,
        seconds=took.seconds,
        seconds_per_run=took.per_run,
        basis=took.basis,
        finals=finals,
        tests_per_family=family,
        family=family_sentence(resolved),
        smallest_p=smallest_p(finals),
        needed_p=plan.alpha / family,
        detectable_sds=sds,
        detectable=None if plan.sd is None else sds * plan.sd,
        sd_for_better=2.0 * plan.rope / sds_for_better(finals, alpha=plan.alpha, family=family),
        sd_for_equivalent=plan.rope / sds_for_equivalent(finals, alpha=plan.alpha, family=family),
        scope=plan.searches.scope,
        configurations_for_all=plan.pool.trials * plan.finals.seeds,
        claims=tuple(_claim(resolved, one) for one in plan.comparisons),
    )


def _claim(resolved: ResolvedPlan, one: ComparisonSection) -> ClaimForecast:
    opponents = resolved.opponents(one)
    tests = {Test(a=one.a, b=other) for other in opponents}
    same = tuple(cell for cell in resolved.plan.cells if any((test, cell) in resolved.left_out for test in tests))
    return ClaimForecast(
        a=one.a,
        b=one.b,
        claim=one.claim,
        tests=len(opponents),
        chances=_chances(resolved, len(opponents)) if len(same) < len(resolved.plan.cells) else (),
        same_runs=same,
    )


def _chances(resolved: ResolvedPlan, tests: int) -> tuple[Chance, ...]:
    plan, rules = resolved.plan, rules_of(resolved)
    finals, family = plan.finals.seeds, resolved.family
    return tuple(
        Chance(
            sd=sd,
            found=chance_of_better(sd, finals, rules, family=family) ** tests,
            equivalent=chance_of_equivalent(sd, finals, rules, family=family),
        )
        for sd in (plan.sd, plan.sd_largest)
        if sd is not None
    )


def sentences(found: Forecast) -> list[str]:
    """The forecast in words, a line each."""
    lines = [
        f"plan {found.name}, hash {found.plan_hash}",
        f"{found.pool_runs + found.final_runs:,} runs at most: {found.pool_runs:,} of the pools, "
        f"{found.final_runs:,} finals",
        f"about {duration(found.seconds)} on one core ({found.seconds_per_run:.3g} s a run; {found.basis})",
        found.family,
        f"{found.finals} finals reach p = {found.smallest_p:.2g}; the smallest of {found.tests_per_family} tests needs "
        f"{found.needed_p:.2g}",
        f"minimum detectable effect, 80 % power: {found.detectable_sds:.2f} SDs of the paired difference"
        + ("" if found.detectable is None else f" = {found.detectable:.3g}"),
        f"an effect of 2 ROPE is called better where that SD is at most {found.sd_for_better:.3g}; "
        f"a difference of 0 is called equivalent where it is at most {found.sd_for_equivalent:.3g}",
        _ASSUMED,
    ]
    lines.append(_scope_sentence(found))
    if not any(one.chances for one in found.claims):
        lines.append("the SD is known after the finals; state `sd` in the plan to have each verdict checked here")
    for one in found.claims:
        about = f"{one.a} against {one.b}, claim {one.claim}, {one.tests} test{'s'[: one.tests > 1]}"
        word = "shown" if one.claim == "mechanism" else "better"
        same = f"the very same runs under another name in {', '.join(one.same_runs)}, so p is 1 and it is never {word}"
        lines.append("; ".join([about, *_reached(word, one.chances), *([same] if one.same_runs else [])]))
    return lines


def _scope_sentence(found: Forecast) -> str:
    about = f"intervals and p-values are {HOLDS[found.scope]}"
    mends = f"at least {found.configurations_for_all} `pool.configurations` (trials × finals) mend it"
    return {
        "configurations": f"every final has a search of its own, which no other shares a point with: {about}",
        "pool": f"searches overlap: {about}, and another pool may turn a verdict; {mends}",
        "search": f"every search sees the whole pool: {about}, its luck is in none, and copies can differ; {mends}",
    }[found.scope]


def _reached(word: str, chances: Sequence[Chance]) -> list[str]:
    return [
        f"at an SD of {chance.sd:.3g} {word} in {chance.found:.0%}{_not(chance.found)} and equivalent in "
        f"{chance.equivalent:.0%}{_not(chance.equivalent)}"
        for chance in chances
    ]


def _not(chance: float) -> str:
    return "" if chance >= POWER else " (NOT reachable)"


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
