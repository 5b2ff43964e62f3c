"""β along the prompts that were looked at."""

import math
import re

import pytest

from betahead.evaluate.prompts import PromptView
from betahead.explore.trail import KEPT, extended, short, trail_card


def view(prompt, beta, *, log_ppl=2.0, f=1.1):
    return PromptView(
        prompt=prompt,
        where="typed",
        tokens=4,
        log_ppl=log_ppl,
        log_ppl_quantile=0.5,
        log_ppl_training_quantile=None,
        f=f,
        beta=beta,
        beta_quantile=0.5,
        beta_training_quantile=None,
        pushed="up",
        at_bound=False,
    )


def trail_of(*betas):
    trail = ()
    for number, beta in enumerate(betas):
        trail = extended(trail, view(f"prompt {number}", beta))
    return trail


def rows(card):
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", card)[1:]]


def test_an_empty_trail_is_no_card():
    assert trail_card(()) == ""


def test_the_table_has_the_newest_first_with_its_change_from_the_one_before():
    assert rows(trail_card(trail_of(0.1, 0.2, 0.15))) == [
        ["3", "prompt 2", "0.15", "×0.75", "2.000", "1.100"],
        ["2", "prompt 1", "0.2", "×2", "2.000", "1.100"],
        ["1", "prompt 0", "0.1", "", "2.000", "1.100"],
    ]


def test_what_a_rule_does_not_have_is_a_dash():
    assert rows(trail_card((view("a", 0.1, log_ppl=None, f=None),)))[0][4:] == ["–", "–"]


def test_the_same_prompt_again_adds_nothing_but_a_return_to_it_does():
    trail = trail_of(0.1)
    assert extended(trail, view("prompt 0", 0.1)) is trail
    assert len(extended(extended(trail, view("other", 0.2)), view("prompt 0", 0.1))) == 3


def test_the_oldest_go_when_there_are_too_many():
    trail = trail_of(*[0.1] * (KEPT + 3))
    assert len(trail) == KEPT and trail[0].prompt == "prompt 3"


def test_the_drawing_rises_and_falls_with_beta():
    card = trail_card(trail_of(0.1, 0.4, 0.2))
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', card)[1].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    heights = [-y for _, y in points]
    assert heights[0] < heights[2] < heights[1]
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2, abs=0.11)  # 0.2 is half way by ratio


def test_one_prompt_or_a_beta_that_is_no_number_has_a_table_but_no_drawing():
    assert "<svg" not in trail_card(trail_of(0.1))
    assert "<svg" not in trail_card(trail_of(0.1, math.nan))
    assert "<svg" in trail_card(trail_of(0.3, 0.3))


def test_prompts_in_the_trail_are_text():
    card = trail_card((view("<img src=x>", 0.1), view("</title><b>", 0.2)))
    assert "<img" not in card and "<b>" not in card and "&lt;img src=x&gt;" in card


def test_a_long_prompt_is_cut_in_its_middle_so_that_both_ends_stay_in_sight():
    assert short(" a\n b ") == "a b"
    cut = short("begin " + "x" * 200 + " end")
    assert cut.startswith("begin ") and cut.endswith(" end") and len(cut) <= 80
