"""Log-ratios as colours."""

import math
import re

import pytest

from betahead.explore.colours import DOWN, UP, colour_of, legend, scale_of


def depth(style):
    return float(style.rpartition("/ ")[2].rstrip(")"))


@pytest.mark.parametrize(
    ("ratios", "scale"),
    [([], 0.1), ([0.0], 0.1), ([0.05, -0.1], 0.1), ([0.2, -0.3], 0.3), ([0.9], 1.0), ([2.0] * 9, 3.0), ([50.0], 10.0)],
)
def test_the_scale_is_the_first_round_number_that_the_log_ratios_do_not_exceed(ratios, scale):
    assert scale_of(ratios) == scale


def test_a_few_outliers_and_what_is_no_number_do_not_bleach_the_rest():
    assert scale_of([0.2] * 99 + [40.0, math.inf, math.nan]) == 0.3


def test_blue_is_likelier_after_training_and_orange_less_likely():
    assert UP in colour_of(0.5, 1.0) and DOWN in colour_of(-0.5, 1.0)
    assert depth(colour_of(0.5, 1.0)) == pytest.approx(depth(colour_of(-0.5, 1.0)))


def test_depth_grows_with_the_size_up_to_the_scale_and_no_further():
    depths = [depth(colour_of(ratio, 1.0)) for ratio in (0.0, 0.2, 0.6, 1.0, 5.0, math.inf)]
    assert depths[0] == 0 and depths == sorted(depths)
    assert depths[3] == depths[4] == depths[5]
    assert colour_of(math.nan, 1.0) == ""


def test_the_legend_runs_from_end_to_end_of_the_scale_in_nats():
    found = legend(0.3)
    assert "−0.3" in found and "+0.3 nats" in found
    titles = re.findall(r'title="([-+\d.e]+) nats"', found)
    assert [float(title) for title in titles] == pytest.approx([0.06 * step for step in range(-5, 6)])
