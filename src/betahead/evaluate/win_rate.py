"""How often a judge prefers the policy's answers to the reference's, raw and had they been equally long."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from betahead.errors import DataError
from betahead.evaluate.matches import Judgement, Match, check_not_cut
from betahead.stats.bootstrap import Interval, mean_interval
from betahead.stats.length import length_controlled_interval

_FEWEST = 0.5


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """What judgements come to; the intervals resample prompts.

    Args:
        matches: all of them.
        wins: of the policy.
        ties: a judge without a preference, orders that disagree, equal answers.
        losses: of the policy.
        unjudged: matches without a usable judgement, by what the judge said in both orders; they count nowhere else.
        equal_answers: matches in which both answers are the same text.
        orders_disagree: matches of which a model said one side in one order and the other side in the other; None for
            a judge that grades answers one by one.
        first_preferred: share of a model's replies with a side that chose the answer that stood first; ½ without bias.
        win_rate: of the policy, a tie counts half.
        length_controlled: the same had both answers been equally long, refitted for every resample; None where the
            difference of lengths is the same in all matches, and not 0.
        policy_characters: mean length of the policy's answers.
        reference_characters: mean length of the reference's.
        policy_grade: mean grade of the policy's answers; None for a judge that gives none.
        reference_grade: likewise.
    """

    matches: int
    wins: int
    ties: int
    losses: int
    unjudged: dict[str, int]
    equal_answers: int
    orders_disagree: int | None
    first_preferred: float | None
    win_rate: Interval
    length_controlled: Interval | None
    policy_characters: Interval
    reference_characters: Interval
    policy_grade: Interval | None
    reference_grade: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def win_rate_of(matches: Sequence[Match], judgements: Sequence[Judgement], *, seed: int) -> WinRate:
    """The win rate of `answer` over `other`.

    Args:
        matches: at least one.
        judgements: one each.
        seed: of the resampling.

    Raises:
        ConfigError: less than half of the matches have a usable judgement, because replies were cut.
        DataError: likewise, for another reason.
    """
    rows = [(match, one) for match, one in zip(matches, judgements, strict=True) if one.outcome is not None]
    unjudged = Counter("/".join(one.orders) for one in judgements if one.outcome is None)
    if len(rows) < _FEWEST * len(matches) or not rows:
        check_not_cut(judgements)
        raise DataError(
            f"`--judge` must give a verdict on most matches, but gave none on {len(matches) - len(rows)} of "
            f"{len(matches)}; use a judge that ends its replies as it is asked to."
        )
    prompts = np.array([match.prompt_id for match, _ in rows])
    outcomes = np.array([one.outcome for _, one in rows], dtype=np.float64)
    lengths = np.array([[len(match.answer), len(match.other)] for match, _ in rows], dtype=np.float64)

    def interval(values: np.ndarray) -> Interval:
        return mean_interval(values, prompts, seed=seed)

    difference = lengths[:, 0] - lengths[:, 1]
    controlled = None
    if np.ptp(difference) > 0 or not difference.any():
        controlled = length_controlled_interval(outcomes, difference, prompts, seed=seed)
    grades = np.array([one.scores for _, one in rows if one.scores is not None])
    read = [one.orders for _, one in rows if one.orders]
    graded = len(grades) == len(rows)
    return WinRate(
        matches=len(matches),
        wins=int((outcomes == 1.0).sum()),
        ties=int((outcomes == 0.5).sum()),
        losses=int((outcomes == 0.0).sum()),
        unjudged=dict(sorted(unjudged.items())),
        equal_answers=sum(match.answer == match.other for match in matches),
        orders_disagree=None if graded else sum(set(orders) == {"answer", "other"} for orders in read),
        first_preferred=None if graded else _first_preferred(read),
        win_rate=interval(outcomes),
        length_controlled=controlled,
        policy_characters=interval(lengths[:, 0]),
        reference_characters=interval(lengths[:, 1]),
        policy_grade=interval(grades[:, 0]) if graded else None,
        reference_grade=interval(grades[:, 1]) if graded else None,
    )


def _first_preferred(orders: Sequence[tuple[str, ...]]) -> float | None:
    chosen = [(side, place) for pair in orders for place, side in enumerate(pair) if side in {"answer", "other"}]
    if not chosen:
        return None
    return sum(side == ("answer", "other")[place] for side, place in chosen) / len(chosen)
