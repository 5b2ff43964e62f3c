"""Win rates of planted judgements, and what is left out of them."""

import numpy as np
import pytest

from betahead.errors import ConfigError, DataError
from betahead.evaluate.matches import Judgement, Match
from betahead.evaluate.win_rate import win_rate_of
from betahead.stats.length import length_controlled_win_rate


def matches(lengths):
    return [
        Match(prompt_id=str(n), prompt=f"q{n}", answer="a" * ours, other="b" * theirs)
        for n, (ours, theirs) in enumerate(lengths)
    ]


def judgements(*outcomes):
    return [Judgement(outcome=outcome, scores=(outcome, 0.5)) for outcome in outcomes]


def test_wins_ties_and_losses_are_counted_and_a_tie_is_half():
    found = win_rate_of(matches([(3, 2), (1, 2), (5, 1), (2, 2)]), judgements(1.0, 0.0, 0.5, 1.0), seed=0)
    assert (found.matches, found.wins, found.ties, found.losses) == (4, 2, 1, 1)
    assert found.win_rate.estimate == 0.625
    assert found.win_rate.low < 0.625 < found.win_rate.high
    assert found.policy_characters.estimate == 2.75 and found.reference_characters.estimate == 1.75
    assert found.policy_grade.estimate == 0.625 and found.reference_grade.estimate == 0.5
    assert (found.orders_disagree, found.first_preferred) == (None, None)


def test_a_judge_that_only_likes_length_gives_half_at_equal_length():
    rng = np.random.default_rng(0)
    lengths = [(int(a), int(b)) for a, b in rng.integers(20, 80, (400, 2)) + np.array([12, 0])]
    noise = rng.normal(0, 10, 400)
    outcomes = [float(a - b + extra > 0) for (a, b), extra in zip(lengths, noise, strict=True)]
    found = win_rate_of(matches(lengths), judgements(*outcomes), seed=0)
    assert found.win_rate.low > 0.55
    assert found.length_controlled.low < 0.5 < found.length_controlled.high
    difference = np.array([a - b for a, b in lengths], dtype=float)
    alone = length_controlled_win_rate(np.array(outcomes), difference)[0]
    assert found.length_controlled.estimate == pytest.approx(alone)


def test_one_difference_of_length_everywhere_cannot_be_told_from_quality():
    found = win_rate_of(matches([(3, 2), (4, 3), (8, 7)]), judgements(1.0, 0.0, 1.0), seed=0)
    assert found.length_controlled is None
    equal = win_rate_of(matches([(3, 3), (4, 4)]), judgements(1.0, 0.0), seed=0)
    assert equal.length_controlled.estimate == pytest.approx(0.5)


def test_a_single_prompt_has_no_interval():
    found = win_rate_of(matches([(3, 2)]), judgements(1.0), seed=0)
    assert (found.win_rate.estimate, found.win_rate.low, found.length_controlled) == (1.0, None, None)


def test_orders_that_disagree_and_the_pull_of_the_first_place_are_counted():
    said = [
        Judgement(outcome=1.0, orders=("answer", "answer")),
        Judgement(outcome=0.5, orders=("answer", "other")),
        Judgement(outcome=0.5, orders=("tie", "answer")),
        Judgement(outcome=0.5),
        Judgement(outcome=None, orders=("nonsense", "answer")),
    ]
    found = win_rate_of(matches([(3, 2), (1, 2), (5, 1), (2, 2), (9, 1)]), said, seed=0)
    assert found.orders_disagree == 1
    # answer first: chosen twice of 2; other first: chosen once of 3.
    assert found.first_preferred == pytest.approx(3 / 5)
    assert found.unjudged == {"nonsense/answer": 1}
    assert (found.wins, found.ties, found.losses) == (1, 3, 0)
    assert found.policy_grade is None


def test_a_judge_without_verdicts_is_refused():
    said = [Judgement(outcome=None, orders=("nonsense", "nonsense"))] * 2 + judgements(1.0)
    with pytest.raises(DataError) as caught:
        win_rate_of(matches([(3, 2), (1, 2), (5, 1)]), said, seed=0)
    assert str(caught.value) == (
        "`--judge` must give a verdict on most matches, but gave none on 2 of 3; use a judge that ends its replies as "
        "it is asked to."
    )


def test_a_judge_whose_replies_are_cut_before_their_verdict_is_a_matter_of_the_limit():
    cut, hm = Judgement(outcome=None, orders=("cut", "answer")), Judgement(outcome=None, orders=("nonsense", "tie"))
    with pytest.raises(ConfigError) as caught:
        win_rate_of(matches([(3, 2)] * 4), [cut, cut, hm, Judgement(outcome=1.0, orders=("answer", "answer"))], seed=0)
    assert str(caught.value) == (
        "`--judge-max-tokens` must leave room for a verdict after what the judge thinks, but in 2 of 4 matches a reply "
        "ended at it before there was one; raise it, to 4096 say."
    )
    with pytest.raises(DataError, match="must give a verdict on most matches, but gave none on 3 of 4"):
        win_rate_of(matches([(3, 2)] * 4), [cut, hm, hm, Judgement(outcome=1.0, orders=("answer", "answer"))], seed=0)
