"""The protocol tested on worlds whose truth is known: it must be able to say no, and to say yes.

`betahead compare --self-test` runs the full form in minutes; the test suite runs a short one.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest

from betahead.compare.plan import load_plan
from betahead.compare.reach import sds_for_better
from betahead.compare.resolved import resolve
from betahead.compare.score import scores_of
from betahead.compare.self_test_truth import (
    ROPE,
    beyond_closed_form,
    constant_answer,
    gold_of,
    headrooms,
    shuffled_gain,
)
from betahead.compare.verdict import Rules, decide
from betahead.errors import ConfigError
from betahead.worlds.tabular_methods import tabular_method_world

_WORLD = "half_noise"
_CONFIGURATION = {"learning_rate": 0.03, "beta": 0.1}
_FIRST_SEED = 2_000_000


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
        replays: of A/A and of the planted effect.
        seeds: policies that the replays draw from.
        finals: units of a replay, and of every other check.
        worlds: in which the oracle is tried.
        configurations: of a search for it.
    """

    replays: int = 200
    seeds: int = 240
    finals: int = 20
    worlds: tuple[str, ...] = ("uniform", "half_noise", "rare_noise", "reward_scales", "few_pairs", "disagreement")
    configurations: int = 12


SHORT = Size(replays=40, seeds=80, finals=12, worlds=("half_noise",), configurations=4)


def self_test(size: Size | None = None, on_check: Callable[[Check], None] | None = None) -> list[Check]:
    """All checks, each reported when it is done."""
    found: list[Check] = []
    for check in _checks(size or Size()):
        found.append(check)
        if on_check is not None:
            on_check(check)
    return found


def _checks(size: Size) -> Iterator[Check]:
    yield from _replays(size)
    yield _shuffled(size)
    yield from _oracles(size)
    yield _envelope(size)
    yield _constant(size)
    yield _outside()
    yield _unreachable()


def _replays(size: Size) -> Iterator[Check]:
    """A against itself, and with a planted effect: runs on different seeds, so nothing cancels."""
    seeds = range(_FIRST_SEED, _FIRST_SEED + size.seeds)
    plain = gold_of(tabular_method_world(_WORLD), "fixed", _CONFIGURATION, seeds)
    sd = float(np.std(plain, ddof=1)) * np.sqrt(2.0)
    # The ROPE of a plan whose dry run just calls "better" reachable, and a little more for the replays' own noise.
    rope = float(1.15 * sds_for_better(size.finals, alpha=0.05, family=1) * sd / 2.0)
    planted = tabular_method_world(_WORLD, planted=(2.0 * rope,))
    (effect,) = (one for one in planted.methods() if one.startswith("planted:"))
    raised = gold_of(planted, effect, _CONFIGURATION, seeds)
    rules = Rules(rope=rope, replicates=500)
    better = {name: _share_better(one, plain, size, rules) for name, one in (("itself", plain), ("planted", raised))}
    no = "A/A says better in at most 5 % of replays"
    yes = "a planted effect of 2 ROPE is found in at least 80 % of replays"
    yield Check(name=no, passed=better["itself"] <= 0.05 * size.replays, sentence=_share(no, better["itself"], size))
    yield Check(name=yes, passed=better["planted"] >= 0.8 * size.replays, sentence=_share(yes, better["planted"], size))


def _share(name: str, found: int, size: Size) -> str:
    interval = binomtest(found, size.replays).proportion_ci(method="exact")
    share = found / size.replays
    return f"{name}: {found} of {size.replays}, {share:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _share_better(a: Float[np.ndarray, " seeds"], b: Float[np.ndarray, " seeds"], size: Size, rules: Rules) -> int:
    """In how many replays A is called better on finals that share no seed with those of B."""
    rng = np.random.default_rng(0)
    replays: list[np.ndarray] = []
    for _ in range(size.replays):
        drawn = rng.permutation(len(a))[: 2 * size.finals]
        replays.append((a[drawn[: size.finals]] - b[drawn[size.finals :]])[:, None])
    return sum(decide([[one]], rules)[0][0].verdict == "better" for one in replays)


def _shuffled(size: Size) -> Check:
    gain, error = shuffled_gain(_WORLD, _CONFIGURATION, range(_FIRST_SEED, _FIRST_SEED + size.finals))
    name = "shuffled labels raise no gold"
    return Check(name=name, passed=gain <= 2.0 * error, sentence=f"{name}: {gain:+.4f} ± {error:.4f}")


def _oracles(size: Size) -> Iterator[Check]:
    """Where the oracle's headroom exceeds the ROPE on fresh seeds it must be called better; the labels' truth too."""
    for world in size.worlds:
        for one in headrooms(world, size.configurations, size.finals):
            if one.method == "renamed":
                name = f"a renamed copy of fixed β is not better in {world}"
                sentence = f"{name}: {one.verdict}, {one.headroom:+.4f}"
                yield Check(name=name, passed=one.verdict != "better", sentence=sentence)
                continue
            name = f"{one.method} wins in {world} where it has headroom"
            yield Check(
                name=name,
                passed=one.verdict == "better" or not one.due,
                sentence=f"{name}: {one.headroom:+.4f} at ROPE {ROPE:g}, {one.verdict}"
                + ("" if one.due else "; too little headroom to ask for a verdict"),
            )


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


_PLAN = """
name: self-test
question: Is anything wrong with this plan?
cells: [tabular/half_noise]
methods:
  fixed: {}
  renamed: {include: [{learning_rate: RATE, beta: 0.1}]}
axes:
  learning_rate: {low: 0.003, high: 0.3}
  beta: {low: 0.01, high: 1.0}
finals: {seeds: FINALS}
rope: 0.01
comparisons:
  - {a: renamed, b: fixed}
"""


def _outside() -> Check:
    return _refused("a configuration outside its space is refused", rate="3.0", finals="20", because="declared space")


def _unreachable() -> Check:
    return _refused(
        "a plan with too few finals for its tests is refused", rate="0.03", finals="5", because="at least 6"
    )


def _refused(name: str, *, rate: str, finals: str, because: str) -> Check:
    text = _PLAN.replace("RATE", rate).replace("FINALS", finals)
    try:
        resolve(load_plan(text), lambda cell: tabular_method_world(cell.partition("/")[2]))
    except ConfigError as error:
        return Check(name=name, passed=because in str(error), sentence=f"{name}: {error}")
    return Check(name=name, passed=False, sentence=f"{name}: it was not")
