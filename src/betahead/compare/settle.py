"""How many finals would settle an inconclusive test, by replaying the whole verdict with the spread that was seen."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from betahead.compare.rules import Rules, Said, said_of
from betahead.stats.power import POWER, smallest_units

# Finals beyond this many times those that there were are no advice.
MOST_TIMES = 50

_REPLAYS = 1000
# Replays that are drawn at once.
_BLOCK = 50
# Of the numbers of finals that are tried, each to the one before.
_STEP = 1.05


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The fewest finals that end a test in four of five replays; None where fifty times those that there were do not.

    Args:
        if_zero: call it equivalent, were there no difference.
        if_twice_rope: call the better one better, were the difference 2·ROPE.
        if_as_seen: say anything at all, were the difference what was seen.
    """

    if_zero: int | None
    if_twice_rope: int | None
    if_as_seen: int | None


def settled_by(differences: Float[np.ndarray, "finals units"], rules: Rules, *, family: int) -> Settled:
    """Replay a test with more finals, for three truths.

    A replay draws its finals anew from those that were seen, moved so that their mean is the truth in question, and
    asks for the whole verdict: interval, effect, wins and a p that is the smallest of its family. Finals are assumed to
    spread as these did, whatever the truth; where finals share prompts, the luck of the prompts stays what it was.

    Args:
        differences: what was seen, of at least 2 finals.
        rules: of the plan.
        family: p-values that Holm corrects together.

    Source:
        This package; power by resampling: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 25.
    """
    of_final = differences.mean(axis=1)
    finals, effect = len(of_final), float(of_final.mean())
    assert finals >= 2, finals
    residual = (of_final - effect) * (finals / (finals - 1.0)) ** 0.5
    tried = _numbers(smallest_units(comparisons=family, alpha=rules.alpha), MOST_TIMES * finals)
    truths = (0.0, 2.0 * rules.rope if effect >= 0.0 else -2.0 * rules.rope, effect)
    rng = np.random.default_rng(rules.seed)
    counts = np.zeros((len(truths), len(tried)))
    for _ in range(_REPLAYS // _BLOCK):
        drawn = residual[rng.integers(0, finals, size=(_BLOCK, int(tried[-1])))]
        sums, squares = (np.cumsum(part, axis=1)[:, tried - 1] for part in (drawn, np.square(drawn)))
        spread = np.sqrt(np.maximum(squares / tried - np.square(sums / tried), 0.0))
        for number, truth in enumerate(truths):
            moved = drawn + truth
            wins = np.cumsum(0.5 * (np.sign(moved) + 1.0), axis=1)[:, tried - 1] / tried
            said = said_of(
                sums / tried + truth,
                spread,
                wins,
                tried.astype(np.float64),
                rules,
                family=family,
                of_prompts=_of_prompts(differences),
                prompts=differences.shape[1],
            )
            counts[number] += _ends(said, number).sum(axis=0)
    zero, twice, seen = (_first(tried, of_truth >= POWER * _REPLAYS) for of_truth in counts)
    return Settled(if_zero=zero, if_twice_rope=twice, if_as_seen=seen)


def _ends(said: Said, number: int) -> np.ndarray:
    """Whether a replay says what is due under the truth of that number."""
    if number == 0:
        return said.equivalent
    clear = said.better | said.worse
    return clear if number == 1 else clear | said.equivalent


def _numbers(least: int, most: int) -> np.ndarray:
    """Numbers of finals to try, each a twentieth above the one before."""
    steps = int(np.ceil(np.log(max(most, least + 1) / least) / np.log(_STEP)))
    return np.unique(np.ceil(least * _STEP ** np.arange(steps + 1)).astype(np.int64))


def _of_prompts(differences: Float[np.ndarray, "finals units"]) -> float:
    """Standard error of the mean by the luck of the prompts that all finals share; 0 where they share none."""
    finals, prompts = differences.shape
    if prompts == 1:
        return 0.0
    of_prompt = differences.mean(axis=0)
    rest = differences - of_prompt - differences.mean(axis=1, keepdims=True) + differences.mean()
    noise = float(np.sum(np.square(rest))) / ((finals - 1) * (prompts - 1))
    return float(np.sqrt(max(float(np.var(of_prompt, ddof=1)) - noise / finals, 0.0) / prompts))


def _first(tried: np.ndarray, enough: np.ndarray) -> int | None:
    """The first number from which on there is enough."""
    if not enough[-1]:
        return None
    lacking = np.flatnonzero(~enough)
    return int(tried[0 if lacking.size == 0 else lacking[-1] + 1])
