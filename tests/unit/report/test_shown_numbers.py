import math

import pytest

from betahead.report.numbers import NONE, count, cut, finite, interval, quantile, rounded, share, shown, thinned


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.12345, "0.123"),
        (-12.345, "−12.3"),
        (999.6, "1000"),
        (1234.5, "1,234"),
        (-1234567, "−1,234,567"),
        (0.00001234, "1.23e−05"),
        (1.5e15, "1.5e+15"),
        (7, "7.00"),
        (None, NONE),
        ("nan", NONE),
        (math.inf, NONE),
        (True, NONE),
    ],
)
def test_a_number_has_three_digits_and_a_real_minus_sign(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_is_no_finite_number_is_none() -> None:
    assert [finite(value) for value in (1, 2.5, math.nan, "inf", None, True)] == [1.0, 2.5, None, None, None, None]
    assert rounded(math.inf) is None and rounded(0.123456789) == 0.123457 and rounded("x") == "x"


def test_an_interval_has_its_bounds_where_there_are_some() -> None:
    assert interval({"estimate": 0.5, "low": -0.25, "high": 1.0}) == "0.500 [−0.250, 1.00]"
    assert interval({"estimate": 0.5, "low": None, "high": None}) == "0.500"
    assert interval("broken") == NONE
    assert (count(1234.0), count(0), count(None)) == ("1,234", "0", NONE)
    assert (share(0.256), share(None)) == ("26%", NONE)


def test_a_thinned_list_keeps_both_ends_and_its_order() -> None:
    items = list(range(1000))
    kept = thinned(items, 7)
    assert (kept[0], kept[-1], len(kept)) == (0, 999, 7)
    assert kept == sorted(set(kept))
    assert thinned(items, 1000) == items


def test_a_quantile_is_linear_between_neighbours() -> None:
    assert [quantile([0.0, 1.0, 4.0], level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 2.5, 4.0]
    assert quantile([3.0], 0.95) == 3.0


def test_a_long_text_says_how_much_is_left_out() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("a" * 2000, 10) == "aaaaaaaaaa … (1,990 more characters)"
