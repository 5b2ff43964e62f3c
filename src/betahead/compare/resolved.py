"""A plan with what its worlds say filled in: spaces, parents, placebos, KL targets. The hash names all of it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from betahead.compare.cells import WorldOf, did_you_mean, refuse_seen_prompts, refuse_unmeasured, runs_of
from betahead.compare.code import Code, code_of
from betahead.compare.contenders import refuse_parts
from betahead.compare.plan import (
    GOLD_METRICS,
    ComparisonSection,
    MetricName,
    Plan,
    plan_of,
    refuse_too_few_finals,
)
from betahead.compare.scope import Searches
from betahead.compare.spaces import Space, refuse_outside, space_of
from betahead.errors import ConfigError
from betahead.runs.yaml_text import read_yaml
from betahead.worlds.outcome import MethodWorld, WorldMethod, fingerprint_of, why_not_in

# Raised when the protocol changes what a plan's results are, or what the storage holds of them.
PROTOCOL = 3

# Final seeds count from here, tuning seeds from 0: those of one plan share none, but those of a plan whose `seed` is
# 1000 larger do, which a storage of both refuses.
_FINALS_FROM = 1_000_000

Role = Literal["opponent", "parent", "placebo"]


@dataclass(frozen=True, kw_only=True)
class Test:
    """One pair of methods that is tested, for one or more claims."""

    __test__ = False

    a: str
    b: str


@dataclass(frozen=True, eq=False, kw_only=True)
class ResolvedPlan:
    """A plan that was checked against its worlds.

    Args:
        worlds: by cell.
        spaces: of every method: the shared axes first, then its own.
        declared: what the worlds say of each method.
        targets: KL targets by cell, fixed by the world before anything is trained.
    """

    plan: Plan
    worlds: Mapping[str, MethodWorld]
    spaces: Mapping[str, Space]
    declared: Mapping[str, WorldMethod]
    targets: Mapping[str, tuple[float, ...]]

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Seeds of the pool."""
        return tuple(tuning_seeds_of(self.plan.seed, self.plan.searches.seed_sets * self.plan.pool.seeds))

    def seeds_of(self, configuration: int) -> tuple[int, ...]:
        """The tuning seeds of a configuration of the pool: those of its search if that has its own, else all."""
        pool = self.plan.pool
        search = configuration // pool.trials % self.plan.searches.seed_sets
        return tuple(tuning_seeds_of(self.plan.seed, (search + 1) * pool.seeds)[search * pool.seeds :])

    @property
    def final_seeds(self) -> tuple[int, ...]:
        """Seeds of the finals: none of them is a tuning seed."""
        return tuple(final_seeds_of(self.plan.seed, self.plan.finals.seeds))

    def spent_by(self, plan: Mapping[str, Any]) -> frozenset[int]:
        """Seeds that this plan and another share, where they are finals of either; both may tune on the same.

        Args:
            plan: the other, as plain values.
        """
        pool, finals = plan["pool"], plan["finals"]["seeds"]
        searches = Searches(configurations=pool["configurations"], trials=pool["trials"], finals=finals)
        tuned = tuning_seeds_of(plan["seed"], searches.seed_sets * pool["seeds"])
        opened = final_seeds_of(plan["seed"], finals)
        mine = frozenset(self.final_seeds)
        return mine.intersection([*tuned, *opened]) | frozenset(opened).intersection(self.tuning_seeds)

    @property
    def metrics(self) -> tuple[MetricName, ...]:
        """The primary metric, then the secondary ones."""
        return _metrics(self.plan)

    @property
    def selected_metrics(self) -> tuple[MetricName, ...]:
        """Those for which a search picks: a measure beside the primary metric is read in the runs picked for that."""
        primary, secondary = self.plan.metric.primary, self.plan.metric.secondary
        return (primary, *(name for name in secondary if name in GOLD_METRICS))

    def picked_components(self, cell: str) -> tuple[str, ...]:
        """The components for each of which a search picks a configuration."""
        return tuple(component for metric in self.selected_metrics for component in self.components(metric, cell))

    def components(self, metric: MetricName, cell: str) -> tuple[str, ...]:
        """The scores whose mean a metric is; a search picks a configuration for each by itself."""
        if metric == "gold_at_matched_kl":
            return tuple(f"gold_at_kl_{number}" for number in range(len(self.targets[cell])))
        if metric == "gold_minus_kappa_kl":
            return tuple(f"gold_minus_kl_{number}" for number in range(len(self.plan.metric.kappas)))
        return (metric,)

    @cached_property
    def tests(self) -> tuple[Test, ...]:
        """Every pair that some claim needs, each once."""
        pairs = [Test(a=one.a, b=other) for one in self.plan.comparisons for other in self.opponents(one)]
        return tuple(dict.fromkeys(pairs))

    @cached_property
    def left_out(self) -> frozenset[tuple[Test, str]]:
        """Tests of a method with the very same runs under another name: their p is 1 before anything is run."""
        return frozenset(
            (test, cell)
            for cell, world in self.worlds.items()
            for test in self.tests
            if runs_of(world, test.a) == runs_of(world, test.b)
        )

    @cached_property
    def families(self) -> tuple[tuple[tuple[Test, str], ...], ...]:
        """The tests whose p-values Holm corrects together: all of the plan, or those of each cell."""
        of_cells = [
            tuple((test, cell) for test in self.tests if (test, cell) not in self.left_out) for cell in self.plan.cells
        ]
        if self.plan.holm == "all":
            of_cells = [tuple(key for of_cell in of_cells for key in of_cell)]
        return tuple(of_cell for of_cell in of_cells if of_cell)

    def family_of(self, test: Test, cell: str) -> int:
        """How many p-values Holm corrects together with that of a test; 1 where it stays out."""
        return next((len(family) for family in self.families if (test, cell) in family), 1)

    @property
    def family(self) -> int:
        """How many p-values Holm corrects together, in the largest family."""
        return max(len(family) for family in self.families)

    def opponents(self, comparison: ComparisonSection) -> tuple[str, ...]:
        """Whom A must beat for the claim: B, and for a mechanism its parent and its placebo too."""
        return tuple(self.roles(comparison))

    def roles(self, comparison: ComparisonSection) -> Mapping[str, Role]:
        """The opponents by name, and what each of them is to A; a B that is the parent counts as the parent."""
        if comparison.claim != "mechanism":
            return {comparison.b: "opponent"}
        declared = self.declared[comparison.a]
        parent, placebo = comparison.parent or declared.parent, comparison.placebo or declared.placebo
        assert parent is not None and placebo is not None, comparison
        return {comparison.b: "opponent", parent: "parent", placebo: "placebo"}

    @cached_property
    def code(self) -> Code:
        """What the numbers of this plan come from here; no part of the hash, which is that of the question."""
        return code_of(self.plan.cells)

    @cached_property
    def text(self) -> str:
        """The canonical form: JSON with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plan, spaces, opponents and targets as plain values, what the worlds are, and what leaves the family."""
        # Plans of one pool keep the hash that they had before there were others.
        apart = {"searches": "apart"} if self.plan.searches.scope == "configurations" else {}
        return apart | {
            "protocol": PROTOCOL,
            "worlds": {cell: _digest(fingerprint_of(world, self.plan.methods)) for cell, world in self.worlds.items()},
            "plan": self.plan.model_dump(mode="json"),
            "spaces": {
                method: {name: axis.model_dump(mode="json") for name, axis in space.items()}
                for method, space in self.spaces.items()
            },
            "opponents": [[one.a, *self.opponents(one)] for one in self.plan.comparisons],
            "left_out": sorted([cell, test.a, test.b] for test, cell in self.left_out),
            "kl_targets": {cell: list(targets) for cell, targets in self.targets.items()},
        }


def family_sentence(resolved: ResolvedPlan) -> str:
    """What Holm corrects together, and what it does not, in words."""
    plan, sizes = resolved.plan, [len(family) for family in resolved.families]
    tests, cells = len(resolved.tests), len(plan.cells)
    if plan.holm == "all":
        said = f"{sizes[0]} p-values, over tests × cells ({tests} × {cells})"
    else:
        said = f"each cell by itself, of {min(sizes)} to {max(sizes)} p-values ({tests} tests)"
    if resolved.left_out:
        said += f", without {len(resolved.left_out)} of a method with the very same runs under another name"
    return f"the family that Holm corrects: {said}"


def tuning_seeds_of(seed: int, seeds: int) -> range:
    """The seeds of the pool of a plan with that seed."""
    return range(1000 * seed, 1000 * seed + seeds)


def final_seeds_of(seed: int, finals: int) -> range:
    """The seeds of the finals of a plan with that seed."""
    start = _FINALS_FROM + 1000 * seed
    return range(start, start + finals)


def load_resolved(source: Path | str, world_of: WorldOf) -> ResolvedPlan:
    """The plan in a file (a `Path`) or a text (a `str`), checked against its worlds.

    Raises:
        ConfigError, DataError: as for `load_plan` and `resolve`, with the line of what is wrong.
    """
    document = read_yaml(source)
    plan = plan_of(document)
    try:
        return resolve(plan, world_of)
    except ConfigError as error:
        key = re.match(r"`([^`]+)`", str(error))
        place = document.source if key is None else document.origin(tuple(key[1].split(" ")[0].split(".")))
        raise ConfigError(f"{place}: {error}") from None


def resolve(plan: Plan, world_of: WorldOf) -> ResolvedPlan:
    """Check the plan against the worlds it names, and fill in what they say.

    Raises:
        ConfigError: an unknown world, method or axis, a configuration outside its space, a claim without its controls,
            or too few finals.
        DataError: a world whose test prompts appear among those it trains or selects on.
    """
    worlds = {cell: world_of(cell) for cell in plan.cells}
    declared: dict[str, WorldMethod] = {}
    for cell, world in worlds.items():
        refuse_seen_prompts(world, cell)
        refuse_unmeasured(world, cell, [name for name in _metrics(plan) if name not in GOLD_METRICS])
        known = world.methods()
        for name in plan.methods:
            if name not in known:
                remedy = why_not_in(world, name) or did_you_mean(name, known)
                raise ConfigError(f"`methods.{name}` is not a method of {cell}; {remedy}")
            if declared.setdefault(name, known[name]).axes != known[name].axes:
                raise ConfigError(
                    f"`methods.{name}` must have the same axes in every cell, but {cell} declares others; "
                    "compare it in a plan of its own."
                )
    spaces = {name: space_of(plan, name, declared[name], section) for name, section in plan.methods.items()}
    for name, section in plan.methods.items():
        for number, configuration in enumerate(section.include):
            refuse_outside(configuration, spaces[name], f"methods.{name}.include.{number}")
    refuse_parts(plan, declared)
    resolved = ResolvedPlan(
        plan=plan,
        worlds=worlds,
        spaces=spaces,
        declared=declared,
        targets={cell: tuple(float(target) for target in world.kl_targets()) for cell, world in worlds.items()},
    )
    if not resolved.families:
        raise ConfigError(
            "`comparisons` must hold a test whose answer is open, but each is of a method with the very same runs "
            "under another name; compare it with another method."
        )
    refuse_too_few_finals(plan.finals.seeds, resolved.family, plan.alpha)
    return resolved


def _metrics(plan: Plan) -> tuple[MetricName, ...]:
    return (plan.metric.primary, *plan.metric.secondary)


def _digest(fingerprint: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True, allow_nan=False).encode()).hexdigest()
