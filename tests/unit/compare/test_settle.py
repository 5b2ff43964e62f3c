"""How many finals would settle a test: the whole verdict replayed, not the power of one of its conditions."""

import numpy as np
import pytest

from betahead.compare.rules import Rules, said_of
from betahead.compare.settle import MOST_TIMES, settled_by
from betahead.compare.verdict import decide

RULES = Rules(rope=0.1)


def finals(mean, sd, count=20, seed=0):
    noise = np.random.default_rng(seed).standard_normal(count)
    return (mean + sd * (noise - noise.mean()) / noise.std(ddof=1))[:, None]


@pytest.mark.parametrize(("effect", "family"), [(0.0, 1), (0.1, 1), (0.2, 1), (0.2, 5)])
def test_the_verdicts_on_many_replays_are_those_of_the_protocol(effect, family):
    rules = Rules(rope=0.1, replicates=400)
    drawn = np.random.default_rng(1).normal(effect, 0.15, size=(150, 16))
    said = said_of(drawn.mean(1), drawn.std(1), (drawn > 0).mean(1), 16, rules, family=family)
    # The others of the family find nothing, so that this p is the smallest.
    nothing = [np.zeros((16, 1))] * (family - 1)
    verdicts = np.array([decide([[one[:, None], *nothing]], rules)[0][0].verdict for one in drawn])
    for word in ("better", "worse", "equivalent"):
        assert np.mean(getattr(said, word) == (verdicts == word)) >= 0.92, word
        assert np.mean(getattr(said, word)) == pytest.approx(np.mean(verdicts == word), abs=0.05)


def test_so_many_finals_settle_what_they_say_they_settle():
    settle = settled_by(finals(0.05, 0.2), RULES, family=4)
    rng = np.random.default_rng(2)
    for truth, count, word in ((0.0, settle.if_zero, "equivalent"), (0.2, settle.if_twice_rope, "better")):
        drawn = rng.normal(truth, 0.2, size=(2000, count))
        said = said_of(drawn.mean(1), drawn.std(1), (drawn > 0).mean(1), count, RULES, family=4)
        assert np.mean(getattr(said, word)) == pytest.approx(0.8, abs=0.05), word


def test_more_spread_and_a_larger_family_need_more_finals():
    narrow, wide = (settled_by(finals(0.05, sd), RULES, family=1) for sd in (0.15, 0.3))
    assert narrow.if_zero < wide.if_zero and narrow.if_twice_rope < wide.if_twice_rope
    crowded = settled_by(finals(0.05, 0.15), RULES, family=10**3)
    assert crowded.if_twice_rope > narrow.if_twice_rope and crowded.if_zero >= narrow.if_zero
    # Random flips give no p below 1 in 100,001, which so large a family multiplies beyond any level.
    assert settled_by(finals(0.05, 0.15), RULES, family=10**6).if_twice_rope is None


def test_where_wins_are_too_rare_no_number_of_finals_calls_it_better():
    # 2 ROPE are half an SD here: A wins on 69 % of the finals, however many there are.
    settle = settled_by(finals(0.05, 0.4), RULES, family=1)
    assert settle.if_twice_rope is None and settle.if_zero > 20
    # Large and beyond doubt on average, but won on 70 % of the finals only.
    seen = np.array([0.5] * 28 + [-0.05] * 12)[:, None]
    assert decide([[seen]], RULES)[0][0].verdict == "inconclusive"
    assert settled_by(seen, RULES, family=1).if_as_seen is None


def test_a_difference_at_the_rope_is_settled_by_no_number():
    assert settled_by(finals(0.1, 0.1), RULES, family=1).if_as_seen is None


def test_what_was_seen_may_be_worse_and_is_then_settled_as_such():
    up, down = (settled_by(finals(sign * 0.15, 0.12), RULES, family=1) for sign in (1, -1))
    # The finals that were seen lean to one side, so the two are not quite mirror images.
    assert down.if_as_seen == pytest.approx(up.if_as_seen, abs=5)
    assert down.if_twice_rope == pytest.approx(up.if_twice_rope, abs=5)


def test_fifty_times_the_finals_are_no_advice():
    settle = settled_by(finals(0.05, 8.0), RULES, family=1)
    assert (settle.if_zero, settle.if_twice_rope, settle.if_as_seen) == (None, None, None)
    assert MOST_TIMES == 50


def test_the_luck_of_prompts_that_all_finals_share_goes_away_with_no_number():
    rng = np.random.default_rng(2)
    alike = rng.normal(0.0, 0.05, size=(10, 30))
    tastes = alike + rng.normal(0.0, 1.0, size=30)
    assert settled_by(alike, RULES, family=1).if_zero is not None
    assert settled_by(tastes, RULES, family=1).if_zero is None
