"""What held-out learning costs, in words and numbers."""

import pytest

from betahead.train.heldout_cost import HeldOutCost

COST = HeldOutCost(pairs=1200, prompts=400, each=8, every=1, work=2.6667, estimates=50, seconds=6.0)


def test_what_is_to_come_is_one_line() -> None:
    assert COST.line() == (
        "β follows 1,200 pairs of 400 training prompts that are held out for it; every step a forward and backward "
        "pass over 8 of them and two forward passes over the step's own pairs, about 2.7 times the work, and two more "
        "copies of the trained weights"
    )


def test_what_it_came_to_is_another() -> None:
    assert COST.spent(10.0) == "50 estimates took 6.0 s of 10.0 s: training was 2.5 times as slow as without"


def test_the_summary_has_the_same_numbers() -> None:
    measured = COST.measured(10.0)
    assert measured["times_slower"] == pytest.approx(2.5)
    assert {name: measured[name] for name in ("pairs", "prompts", "each", "every", "estimates", "seconds")} == {
        "pairs": 1200,
        "prompts": 400,
        "each": 8,
        "every": 1,
        "estimates": 50,
        "seconds": 6.0,
    }
