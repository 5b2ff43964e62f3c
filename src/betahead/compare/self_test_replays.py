"""The whole protocol, again and again, where the truth is written down: pool, searches, finals, Holm and verdict."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from betahead.compare.judged import Judged, judge
from betahead.compare.plan import Plan
from betahead.compare.pool import pool_of
from betahead.compare.reach import sds_for_better
from betahead.compare.resolved import ResolvedPlan, resolve
from betahead.compare.rules import LEAST_WIN_PROBABILITY, Verdict
from betahead.compare.self_test_exact import Asked, ExactMethod, ExactWorld
from betahead.compare.verdict import Decision
from betahead.compare.work import Finished, worked_alone

CELLS = ("exact/nested", "exact/shared")
CONDITIONS = ("interval", "effect", "p", "wins")
"""What "better" needs, each of which must be seen to decide by itself."""

POOL_APART = 80
"""Configurations of `fresh_pools` at which every final has a search of its own."""
POOL_SHARED = 8
"""Configurations at which they overlap, as they do in the other replays."""

_PAIRS = 7
_FIRST_SEED = 100
_PLANTED_FINALS = 20
_TRIALS = 4
# Of the planted plan: eight tests in each of two cells.
_PLANTED_FAMILY = 16


@dataclass(kw_only=True)
class Tally:
    """What so many replays of a plan came to.

    Args:
        said: by A, B and verdict: in how many replays × cells that was said of A against B.
        shown: how often the mechanism was.
        any_better: replays in which any A was called better than its B.
        decided: by condition: how often it was the only one that stood against "better".
        astray: decisions that do not follow from the four conditions.
        best_picked: searches that picked the best of the whole pool.
        one_pick: replays in which all searches picked the same configuration.
        zero_inside: decisions, of replays × cells × tests, whose interval of the effect holds 0.
    """

    replays: int
    said: Counter[tuple[str, str, Verdict]] = field(default_factory=Counter)
    shown: int = 0
    any_better: int = 0
    decided: Counter[str] = field(default_factory=Counter)
    astray: int = 0
    searches: int = 0
    best_picked: int = 0
    one_pick: int = 0
    zero_inside: int = 0

    def count(self, finished: Finished, judged: Judged) -> None:
        """Add a replay."""
        plan = finished.resolved.plan
        for (test, _), its in judged.decisions.items():
            self.said[test.a, test.b, its.verdict] += 1
            against = [name for name, holds in _conditions(its, plan).items() if not holds]
            low, high = its.effect.low, its.effect.high
            self.zero_inside += low is not None and high is not None and low <= 0.0 <= high
            self.astray += (its.verdict == "better") == bool(against)
            if len(against) == 1:
                self.decided[against[0]] += 1
        self.shown += sum(cell.verdict == "shown" for _, cells in judged.claims for cell in cells)
        self.any_better += any(its.verdict == "better" for its in judged.decisions.values())
        cell, method = plan.cells[0], next(iter(plan.methods))
        dev = finished.dev[cell, method]["gold_at_kl_0"].mean(axis=1)
        picks = finished.chosen[cell, method]["gold_at_kl_0"]
        self.searches += len(picks)
        self.best_picked += int(np.sum(picks == dev.argmax()))
        self.one_pick += len(set(picks.tolist())) == 1


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What a rigged run without luck shows: dev and test prefer different configurations, and test is worth 100 more.

    On dev, single tuning seeds prefer yet others; only their mean is right.

    Args:
        shared: whether all methods drew the same points.
        picked: whether every search took the best mean on dev.
        worth: the largest distance of a final from what its configuration is worth on test.
        diverged: the most that a final which diverged is worth, where the reference is worth 0.
        seeds_apart: whether no seed of the pool was a seed of the finals.
    """

    shared: bool
    picked: bool
    worth: float
    diverged: float
    seeds_apart: bool


def against_itself(replays: int, on_replay: Callable[[int], None] | None = None) -> Tally:
    """Seven pairs of copies in two cells; every copy has luck of its own in tuning and finals, some a null knob.

    The ROPE is a fourteenth of the SD of a paired difference, so that it protects nobody; Holm must. Every replay has a
    pool of its own, so the share called better is one over pools too; but copies like the same configurations here, and
    so the luck of the pool cancels. `fresh_pools` is where it does not.
    """
    table = [ExactMethod(name=f"copy_{i}", knob=i % 2 == 1) for i in range(2 * _PAIRS)]
    comparisons = [{"a": f"copy_{2 * i + 1}", "b": f"copy_{2 * i}"} for i in range(_PAIRS)]
    return _tally(_replays(table, comparisons, replays, finals=10, rope=0.1), replays, on_replay)


def fresh_pools(replays: int, configurations: int, on_replay: Callable[[int], None] | None = None) -> Tally:
    """Two methods that like different configurations, and on average over configurations are worth the same.

    Which of them is better in a pool is the luck of that pool: an interval that holds for other configurations holds 0
    in 95 % of pools, and one that is about its own pool in fewer.

    Args:
        replays: pools, of which each has its own points and seeds.
        configurations: of a pool; the `POOL_APART` of them give every final a search of its own.
        on_replay: told each.
    """
    table = [ExactMethod(name=name, own=0.5, liking=5.0) for name in ("one", "other")]
    drawn = _replays(
        table,
        [{"a": "one", "b": "other"}],
        replays,
        finals=_PLANTED_FINALS,
        rope=0.1,
        configurations=configurations,
    )
    return _tally(drawn, replays, on_replay)


def planted(replays: int, on_replay: Callable[[int], None] | None = None) -> Tally:
    """Methods whose difference from their rival is known, each of which one part of the verdict must see.

    `planted` gains 2·ROPE, and so does its placebo; `beyond` gains a third more than the ROPE; `slight` gains ROPE/2,
    in every run; `twin` gains nothing; `lottery` gains 2·ROPE on average and loses in most runs; `fond` gains nothing,
    but likes some of the prompts that all runs share. The ROPE is one at which a dry run just calls "better"
    reachable, and a seventh more.
    """
    rope = 1.15 * sds_for_better(_PLANTED_FINALS, alpha=0.05, family=_PLANTED_FAMILY) * 2.0**0.5 / 2.0
    calm = 0.05 * rope
    table = [
        ExactMethod(name="parent"),
        ExactMethod(name="planted", gain=2.0 * rope, parent="parent", placebo="placebo"),
        ExactMethod(name="placebo", gain=2.0 * rope),
        ExactMethod(name="beyond", gain=4.0 / 3.0 * rope),
        ExactMethod(name="quiet", own=calm),
        ExactMethod(name="twin", own=calm),
        ExactMethod(name="slight", own=calm, gain=0.5 * rope, knob=True),
        ExactMethod(name="lottery", own=calm, gain=-0.2 * rope, prize=5.2 * rope, chance=0.42),
        ExactMethod(name="fond", own=calm, taste=10.0 * rope),
    ]
    comparisons: list[dict[str, Any]] = [
        {"a": "planted", "b": "parent", "claim": "mechanism"},
        {"a": "beyond", "b": "parent"},
        {"a": "parent", "b": "planted"},
        *({"a": name, "b": "quiet"} for name in ("slight", "twin", "lottery", "fond")),
    ]
    return _tally(_replays(table, comparisons, replays, finals=_PLANTED_FINALS, rope=rope), replays, on_replay)


def rigged() -> Stages:
    """One run of the protocol without luck, whose every stage has one right answer."""
    worlds: list[ExactWorld] = []

    def world_of(cell: str) -> ExactWorld:
        best, level = {"eval": -1.0, "test": -2.0}, {"eval": 0.0, "test": 100.0}
        table = [ExactMethod(name="one", own=0.0), ExactMethod(name="fragile", own=0.0, knob=True, diverges=True)]
        worlds.append(ExactWorld(cell, table, common=0.0, best=best, level=level, swing=1000.0))
        return worlds[-1]

    pool = {"configurations": 8, "trials": 8, "seeds": 2}
    plan = _plan(["one", "fragile"], [{"a": "one", "b": "fragile"}], seed=0, finals=8, rope=0.1, pool=pool)
    resolved = resolve(plan, world_of)
    finished = worked_alone(resolved)
    world, points = worlds[0], pool_of(resolved, "one")
    rates = [configuration["learning_rate"] for configuration in points]
    right = int(np.argmax([world.quality(rate, "eval") for rate in rates]))
    picks = finished.chosen[CELLS[0], "one"]["gold_at_kl_0"]
    worth, diverged = (finished.finals[CELLS[0], name][1].values["gold_at_kl_0"] for name in ("one", "fragile"))
    asked = [one for world in worlds for one in world.asked]
    return Stages(
        shared=all(
            {name: other[name] for name in mine} == mine
            for mine, other in zip(points, pool_of(resolved, "fragile"), strict=True)
        ),
        picked=bool((picks == right).all()),
        worth=float(np.abs(worth - world.quality(rates[right], "test")).max()),
        diverged=float(diverged.max()),
        seeds_apart=_seeds(asked, "eval").isdisjoint(_seeds(asked, "test")),
    )


def _seeds(asked: Sequence[Asked], split: str) -> set[int]:
    return {seed for one in asked if one.split == split for seed in one.seeds}


def _tally(replays: Iterable[ResolvedPlan], count: int, on_replay: Callable[[int], None] | None) -> Tally:
    tally = Tally(replays=count)
    for number, resolved in enumerate(replays, start=1):
        finished = worked_alone(resolved)
        tally.count(finished, judge(finished))
        if on_replay is not None:
            on_replay(number)
    return tally


def _replays(
    table: Sequence[ExactMethod],
    comparisons: list[dict[str, Any]],
    replays: int,
    *,
    finals: int,
    rope: float,
    configurations: int = POOL_SHARED,
) -> Iterator[ResolvedPlan]:
    """The same plan with other seeds: other points, searches, tuning and final seeds, and other prompts."""
    pool = {"configurations": configurations, "trials": _TRIALS, "seeds": 2}
    for number in range(replays):
        seed = _FIRST_SEED + number
        plan = _plan([one.name for one in table], comparisons, seed=seed, finals=finals, rope=rope, pool=pool)
        yield resolve(plan, lambda cell, seed=seed: ExactWorld(cell, table, draw=seed))


def _plan(
    methods: Sequence[str],
    comparisons: list[dict[str, Any]],
    *,
    seed: int,
    finals: int,
    rope: float,
    pool: Mapping[str, int],
) -> Plan:
    return Plan.model_validate(
        {
            "name": "self-test",
            "question": "Does the protocol see what is there, and nothing else?",
            "seed": seed,
            "cells": list(CELLS),
            "methods": {name: {} for name in methods},
            "axes": {"learning_rate": {"low": 1e-3, "high": 1.0}, "beta": {"low": 0.1, "high": 1.0}},
            "pool": dict(pool),
            "finals": {"seeds": finals},
            "rope": rope,
            "comparisons": comparisons,
        }
    )


def _conditions(its: Decision, plan: Plan) -> Mapping[str, bool]:
    """The four conditions of "better", read off a decision."""
    holds = (
        its.effect.low is not None and its.effect.low > 0.0,
        its.effect.estimate >= plan.rope,
        its.p_holm < plan.alpha,
        its.wins.estimate >= LEAST_WIN_PROBABILITY,
    )
    return dict(zip(CONDITIONS, holds, strict=True))
