"""Limits have names, defaults and a range each."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny

from betahead.errors import ConfigError
from betahead.train.guard_limits import GuardLimits, check_on_warning


def test_what_is_not_given_has_its_default() -> None:
    assert GuardLimits.of(None) == GuardLimits()
    assert GuardLimits.of({"kl": 3, "falling": None}) == GuardLimits(kl=3, falling=None)


WRONG: dict[str, tuple[Any, str]] = {
    "no mapping": (3, "`guards` must be limits by name or None, but is 3 instead."),
    "a misspelt name": (
        {"at_bounds": 0.5},
        "`guards.at_bounds` must be the limit of a guard, but is of none; did you mean `at_bound`?",
    ),
    "an unknown name": (
        {"weather": 1.0},
        "`guards.weather` must be the limit of a guard, but is of none; the guards are at_bound, constant, falling, "
        "kl, prompt_drift, first_margin, level_factor.",
    ),
    "no patience": ({"patience": 0}, "`guards.patience` must be a whole number of at least 1, but is 0 instead."),
    "half a line": ({"patience": 1.5}, "`guards.patience` must be a whole number of at least 1, but is 1.5 instead."),
    "more than all": (
        {"at_bound": 1.5},
        "`guards.at_bound` must be a number above 0 and at most 1, or None, but is 1.5 instead.",
    ),
    "no distance": ({"kl": 0}, "`guards.kl` must be a number above 0, or None, but is 0 instead."),
    "a flag": ({"kl": True}, "`guards.kl` must be a number above 0, or None, but is True instead."),
    "no number": (
        {"falling": float("nan")},
        "`guards.falling` must be a number above 0, or None, but is nan instead.",
    ),
    "a factor that is none": (
        {"level_factor": 1.0},
        "`guards.level_factor` must be a number above 1, or None, but is 1.0 instead.",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_limits_that_make_no_sense_are_refused_with_the_settings(case: str, tmp_path: Path) -> None:
    given, wanted = WRONG[case]
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        GuardLimits.of(given)
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        tiny.arguments(tmp_path, guards=given)


def test_a_reaction_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    wanted = "^`on_warning` must be one of warn, stop, but is 'ignore' instead\\.$"
    with pytest.raises(ConfigError, match=wanted):
        check_on_warning("ignore")
    with pytest.raises(ConfigError, match=wanted):
        tiny.arguments(tmp_path, on_warning="ignore")
