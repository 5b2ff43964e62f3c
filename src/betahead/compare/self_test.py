"""The protocol tested on worlds whose truth is known: it must be able to say no, and to say yes.

`betahead compare --self-test` runs the full form in minutes; the test suite runs a short one.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from betahead.compare.rules import Rules, Verdict
from betahead.compare.score import scores_of
from betahead.compare.self_test_refusals import refusals
from betahead.compare.self_test_replays import (
    CELLS,
    CONDITIONS,
    POOL_APART,
    POOL_SHARED,
    Tally,
    against_itself,
    fresh_pools,
    planted,
    rigged,
)
from betahead.compare.self_test_truth import (
    MUST_WIN,
    ROPE,
    beyond_closed_form,
    constant_answer,
    gold_of,
    recorded_headroom,
    shuffled_gain,
    verdict_on_copy,
    verdicts_on_truth,
)
from betahead.compare.verdict import decide
from betahead.worlds.tabular_methods import tabular_method_world

_WORLD = "half_noise"
_CONFIGURATION = {"learning_rate": 0.03, "beta": 0.1}
_FIRST_SEED = 2_000_000
_ALPHA = 0.05
_POWER = 0.8

# Differences of the planted plan: in words, A and B, and the verdict in question.
_MUST_FIND: tuple[tuple[str, str, str, Verdict], ...] = (
    ("a planted effect of 2 ROPE", "planted", "parent", "better"),
    ("a planted loss of 2 ROPE", "parent", "planted", "worse"),
    ("a twin without luck", "twin", "quiet", "equivalent"),
)
_MUST_NOT: tuple[tuple[str, str, str, Verdict], ...] = (
    ("half a ROPE in every run", "slight", "quiet", "better"),
    ("2 ROPE on average, lost in most runs,", "lottery", "quiet", "better"),
    ("a liking for some of the prompts that all runs share", "fond", "quiet", "better"),
    ("a third more than the ROPE", "beyond", "parent", "equivalent"),
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold, and what was measured."""

    name: str
    passed: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much the self-test spends.

    Args:
        replays: of the whole protocol, of copies against each other and of planted differences each.
        finals: units of every check in tabular worlds.
        worlds: tabular ones in which the oracles are tried.
        configurations: of a search there.
        copies: renamed copies of fixed β that are tried in each of them.
    """

    replays: int = 200
    finals: int = 20
    worlds: tuple[str, ...] = (
        *("uniform", "half_noise", "rare_noise", "frequent_noise", "adversarial_topic"),
        *("reward_scales", "few_pairs", "disagreement"),
    )
    configurations: int = 12
    copies: int = 8


SHORT = Size(replays=25, worlds=("half_noise",), configurations=4, copies=2)


def self_test(
    size: Size | None = None,
    on_check: Callable[[Check], None] | None = None,
    on_work: Callable[[str], None] | None = None,
) -> list[Check]:
    """All checks, each reported when it is done.

    Args:
        size: what to spend; None means all of it.
        on_check: told each check.
        on_work: told what is being worked on, in words, now and then.
    """
    found: list[Check] = []
    for check in _checks(size or Size(), on_work or (lambda _: None)):
        found.append(check)
        if on_check is not None:
            on_check(check)
    return found


def _checks(size: Size, on_work: Callable[[str], None]) -> Iterator[Check]:
    def replays_of(what: str) -> Callable[[int], None]:
        return lambda number: on_work(f"{what}: replay {number} of {size.replays}")

    itself = against_itself(size.replays, replays_of("copies against each other"))
    yield _at_most(
        "copies against each other: any of them is called better in at most 5 % of replays",
        itself.any_better,
        itself.replays,
    )
    known = planted(size.replays, replays_of("differences of known size"))
    yield from _known(known)
    yield _conditions(itself, known)
    yield from _stages(itself)
    apart, shared = (
        fresh_pools(size.replays, configurations, replays_of(f"copies in pools of {configurations}"))
        for configurations in (POOL_APART, POOL_SHARED)
    )
    yield _pools(apart, shared)
    on_work("tabular worlds")
    yield _shuffled(size)
    yield from _recorded()
    yield from _truths(size, on_work)
    yield _copies(size, on_work)
    on_work("the closed form, a constant answer and plans that must be refused")
    yield _envelope(size)
    yield _constant(size)
    for one in refusals():
        yield Check(name=one.name, passed=one.because in one.said, sentence=f"{one.name}: {one.said}")


def _known(known: Tally) -> Iterator[Check]:
    """Differences of known size: some must be found, the others must not be called what they are not."""
    tried = known.replays * len(CELLS)
    for what, a, b, verdict in _MUST_FIND:
        name = f"{what} is called {verdict} in at least 80 % of replays"
        found = known.said[a, b, verdict]
        yield Check(name=name, passed=found >= _POWER * tried, sentence=_share(name, found, tried))
    for what, a, b, verdict in _MUST_NOT:
        name = f"{what} is called {verdict} in at most 5 % of replays"
        yield _at_most(name, known.said[a, b, verdict], tried)
    yield _at_most(
        "a gain that the placebo has too is called a mechanism in at most 5 % of replays", known.shown, tried
    )


def _at_most(name: str, found: int, tried: int) -> Check:
    return Check(name=name, passed=found <= _ALPHA * tried, sentence=_share(name, found, tried))


def _conditions(*tallies: Tally) -> Check:
    """Each of the four conditions must have decided alone somewhere, and no verdict may contradict them."""
    decided = {one: sum(tally.decided[one] for tally in tallies) for one in CONDITIONS}
    astray = sum(tally.astray for tally in tallies)
    name = "every condition of better decides somewhere by itself"
    counts = ", ".join(f"{one} {count}" for one, count in decided.items())
    return Check(
        name=name,
        passed=astray == 0 and all(decided.values()),
        sentence=f"{name}: {counts}; verdicts that do not follow from the four: {astray}",
    )


def _pools(apart: Tally, shared: Tally) -> Check:
    """Intervals hold for other configurations where a plan says so, and a plan that does not say so has a reason."""
    tried = apart.replays * len(CELLS)
    name = "a 95 % interval holds in other pools where every final has a search of its own, and not where they overlap"
    inside, overlapping = (binomtest(one.zero_inside, tried).proportion_ci(method="exact") for one in (apart, shared))
    return Check(
        name=name,
        passed=bool(inside.high >= 1.0 - _ALPHA > overlapping.high),
        sentence=_share(name, apart.zero_inside, tried) + f"; overlapping {shared.zero_inside} of {tried}",
    )


def _stages(itself: Tally) -> Iterator[Check]:
    """Pool, searches, selection and finals, each where its right answer is known."""
    stages = rigged()
    for name, holds in (
        ("all methods draw the same points", stages.shared),
        ("a search takes the best mean on dev", stages.picked),
        ("no seed of the pool is a seed of the finals", stages.seeds_apart),
    ):
        yield Check(name=name, passed=holds, sentence=f"{name}: {'yes' if holds else 'no'}")
    name = "a final is worth what its configuration is worth on test"
    yield Check(name=name, passed=stages.worth <= 1e-9, sentence=f"{name}: off by {stages.worth:.1e} at most")
    name = "a final that diverged is worth no more than the reference"
    yield Check(name=name, passed=stages.diverged <= 0.0, sentence=f"{name}: {stages.diverged:+.4f} at most")
    name = "a search that sees half of the pool picks its best half of the time, and not all searches pick alike"
    share, error = itself.best_picked / itself.searches, 0.5 / itself.searches**0.5
    yield Check(
        name=name,
        passed=abs(share - 0.5) <= 4.0 * error and itself.one_pick <= _ALPHA * itself.replays,
        sentence=f"{name}: {share:.1%} of {itself.searches}; all alike in {itself.one_pick} of {itself.replays}",
    )


def _share(name: str, found: int, tried: int) -> str:
    interval = binomtest(found, tried).proportion_ci(method="exact")
    return f"{name}: {found} of {tried}, {found / tried:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _recorded() -> Iterator[Check]:
    """Worlds that are there for their headroom must have it on record, on seeds that no search saw."""
    for world in MUST_WIN:
        for oracle in ("oracle", "weight_oracle"):
            least = min(recorded_headroom(world, oracle))
            name = f"{oracle} has headroom in {world}"
            sentence = f"{name}: at least {least:+.4f} at every KL, ROPE {ROPE:g}"
            yield Check(name=name, passed=least >= ROPE, sentence=sentence)


def _shuffled(size: Size) -> Check:
    gain, error = shuffled_gain(_WORLD, _CONFIGURATION, range(_FIRST_SEED, _FIRST_SEED + size.finals))
    name = "shuffled labels raise no gold"
    return Check(name=name, passed=gain <= 2.0 * error, sentence=f"{name}: {gain:+.4f} ± {error:.4f}")


def _truths(size: Size, on_work: Callable[[str], None]) -> Iterator[Check]:
    """What reads the truth must win where so much is due, and what only looks like it must not."""
    for world in size.worlds:
        on_work(f"oracles and clean labels in {world}")
        for one in verdicts_on_truth(world, size.configurations, size.finals):
            name = f"{one.a} {'wins' if one.due else 'does not win'} against {one.b} in {world}"
            yield Check(
                name=name,
                passed=(one.verdict == "better") == one.due,
                sentence=f"{name}: {one.effect:+.4f} at ROPE {ROPE:g}, {one.verdict}",
            )


def _copies(size: Size, on_work: Callable[[str], None]) -> Check:
    """Copies in worlds where something is trained; each has a plan of its own, so none shares its luck."""
    better, tried = 0, size.copies * len(size.worlds)
    for number in range(tried):
        on_work(f"renamed copies with luck of their own: {number + 1} of {tried}")
        world = size.worlds[number % len(size.worlds)]
        better += verdict_on_copy(world, size.configurations, size.finals, seed=number) == "better"
    name = "fixed β under another name, with luck of its own, is called better in at most 5 % of tries"
    return _at_most(name, better, tried)


def _envelope(size: Size) -> Check:
    excess = beyond_closed_form(_WORLD, _CONFIGURATION, range(_FIRST_SEED, _FIRST_SEED + size.finals))
    name = "no policy lies beyond the closed form's frontier"
    return Check(name=name, passed=excess <= 1e-9, sentence=f"{name}: by {excess:.1e} at most")


def _constant(size: Size) -> Check:
    seeds = range(_FIRST_SEED, _FIRST_SEED + size.finals)
    world = tabular_method_world(_WORLD)
    constant = scores_of(constant_answer(_WORLD, seeds), world.kl_targets(), ())
    differences = np.mean([value for name, value in constant.values.items() if name.startswith("gold_at_kl_")], axis=0)
    differences = differences - gold_of(world, "fixed", _CONFIGURATION, seeds)[:, None]
    verdict = decide([[differences]], Rules(rope=ROPE))[0][0].verdict
    name = "a constant answer loses against tuned fixed β"
    return Check(name=name, passed=verdict == "worse", sentence=f"{name}: {verdict}, {differences.mean():+.3f}")
