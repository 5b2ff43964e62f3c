"""Where a value lies among others, drawn."""

import re

import numpy as np
import pytest

from betahead.explore.place import Axis, place_plot


def counts(drawing):
    return [int(count) for count in re.findall(r": (\d+) prompts</title>", drawing)]


def mark(drawing):
    return float(re.search(r'<circle cx="([\d.]+)"', drawing)[1])


def test_every_prompt_is_in_a_bar():
    values = np.linspace(1.0, 2.0, 100)
    assert sum(counts(place_plot("log PPL", "nats", 1.5, values, log=False))) == 100


def test_the_mark_stands_where_the_value_lies():
    values = np.array([0.0, 4.0])
    assert mark(place_plot("x", "", 1.0, values, log=False)) == pytest.approx(90.0)
    assert mark(place_plot("x", "", 1.0, np.array([0.1, 10.0]), log=True)) == pytest.approx(180.0)


@pytest.mark.parametrize(("value", "place"), [(9.0, 360.0), (0.5, 0.0)])
def test_a_value_beyond_the_others_widens_the_axis_and_stands_at_its_end(value, place):
    drawing = place_plot("x", "", value, np.array([1.0, 2.0, 3.0]), log=False)
    assert mark(drawing) == pytest.approx(place)
    assert sum(counts(drawing)) == 3
    assert f">{value:.3g}</text>" in drawing


def test_values_that_are_all_the_same_have_an_axis_with_room_on_both_sides():
    axis = Axis.over(np.array([0.3, 0.3]), log=True)
    assert axis.low < 0.3 < axis.high
    assert 0.4 < axis.share(0.3) < 0.6
    assert Axis.over(np.array([0.0]), log=False) == Axis(low=-0.1, high=0.1, log=False)


@pytest.mark.parametrize("log", [True, False])
def test_an_axis_gives_back_the_value_at_a_share(log):
    axis = Axis.over(np.array([0.01, 1.0]), log=log)
    assert axis.share(0.01) == 0 and axis.share(1.0) == pytest.approx(1)
    assert axis.at(axis.share(0.2)) == pytest.approx(0.2)


def test_values_that_are_not_positive_are_drawn_on_a_linear_axis_which_the_caption_says():
    assert Axis.over(np.array([0.0, 1.0]), log=True).log is False
    assert "logarithmic" not in place_plot("β", "", 0.5, np.array([0.0, 1.0]), log=True)
    assert "<figcaption>β (logarithmic axis)</figcaption>" in place_plot("β", "", 0.5, np.array([0.1, 1.0]), log=True)
    assert "<figcaption>β</figcaption>" in place_plot("β", "", 0.5, np.array([0.0, 1.0]), log=False)


def test_the_drawing_says_in_words_what_it_shows():
    drawing = place_plot("β", "", 0.2, np.array([0.1, 0.4]), log=True)
    assert 'aria-label="β 0.2 among 2 prompts from 0.1 to 0.4"' in drawing
