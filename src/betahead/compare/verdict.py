"""From paired differences to a verdict: better, worse, equivalent, or inconclusive and what would settle it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from betahead.compare.rules import LEAST_WIN_PROBABILITY, Rules, Verdict
from betahead.stats.bootstrap import Interval
from betahead.stats.multiple import holm
from betahead.stats.paired import Equivalence, equivalence, paired_interval, sign_flip_p, win_probability
from betahead.stats.power import minimum_detectable_effect

MechanismVerdict = Literal["shown", "not shown", "open"]

NO_BETTER: frozenset[Verdict] = frozenset({"equivalent", "worse"})

Differences = Float[np.ndarray, "finals units"]
"""A minus B, paired by final: the same virtual search, the same seed; units are prompts where finals share them."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the differences of one test say.

    Args:
        effect: mean difference and its 95 % interval (1 − alpha).
        ninety: the interval of the equivalence test (1 − 2·alpha).
        p: exact sign-flip over finals.
        p_holm: the same, corrected over the family.
        wins: P(A > B) on a fresh final.
        sd: spread of the difference between finals.
        minimum_detectable_effect: what so many finals find with 80 % power within this family.
    """

    verdict: Verdict
    effect: Interval
    ninety: Interval
    p: float
    p_holm: float
    wins: Interval
    sd: float
    finals: int
    minimum_detectable_effect: float


def decide(families: Sequence[Sequence[Differences]], rules: Rules) -> list[list[Decision]]:
    """The decisions on every test; Holm corrects within each family.

    *better*: interval above 0, effect at least the ROPE, corrected p below alpha, P(A > B) at least ¾; *worse*, the
    same with A and B changed; *equivalent*: the 90 % interval lies inside ±ROPE; else *inconclusive*.

    Args:
        families: tests by family.
        rules: fixed beforehand.

    Returns:
        Decisions in the same order.
    """
    found: list[list[Decision]] = []
    for family in families:
        p = np.array([sign_flip_p(one.mean(axis=1), seed=rules.seed) for one in family])
        corrected = holm(p)
        found.append(
            [
                _decision(one, float(raw), float(held), rules, len(family))
                for one, raw, held in zip(family, p, corrected, strict=True)
            ]
        )
    return found


def mechanism(verdicts: Mapping[str, Verdict]) -> MechanismVerdict:
    """Whether A is seen to win by its mechanism: it must be better than its opponent, its parent and its placebo alike.

    It is not shown as soon as one of them is as good or better: then the win, if there is one, may have another cause.
    That does not refute it, because a mechanism may work and win too little. Where a test is inconclusive and none is
    lost, it is open.
    """
    values = set(verdicts.values())
    if values == {"better"}:
        return "shown"
    return "not shown" if values & NO_BETTER else "open"


def _decision(differences: Differences, p: float, p_holm: float, rules: Rules, family: int) -> Decision:
    of_final = differences.mean(axis=1)
    finals = len(of_final)
    effect = paired_interval(differences, seed=rules.seed, replicates=rules.replicates, level=1.0 - rules.alpha)
    equal = equivalence(differences, rope=rules.rope, seed=rules.seed, alpha=rules.alpha, replicates=rules.replicates)
    wins = win_probability(of_final)
    verdict = _verdict(effect, equal, p_holm, wins.estimate, rules)
    sd = float(np.std(of_final, ddof=1)) if finals > 1 else 0.0
    return Decision(
        verdict=verdict,
        effect=effect,
        ninety=equal.interval,
        p=p,
        p_holm=p_holm,
        wins=wins,
        sd=sd,
        finals=finals,
        minimum_detectable_effect=minimum_detectable_effect(sd, max(finals, 2), alpha=rules.alpha, comparisons=family),
    )


def _verdict(effect: Interval, equal: Equivalence, p_holm: float, wins: float, rules: Rules) -> Verdict:
    if effect.low is not None and effect.high is not None and p_holm < rules.alpha:
        if effect.low > 0.0 and effect.estimate >= rules.rope and wins >= LEAST_WIN_PROBABILITY:
            return "better"
        if effect.high < 0.0 and effect.estimate <= -rules.rope and 1.0 - wins >= LEAST_WIN_PROBABILITY:
            return "worse"
    return "equivalent" if equal.holds else "inconclusive"
