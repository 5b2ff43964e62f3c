import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.dual_ascent import DualAscent
from betahead.errors import ConfigError

LIMITS = (math.log(1e-3), math.log(30.0))
positive = st.floats(1e-3, 1e3)


def tensor(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def moved(ascent: DualAscent, level: float, kl: float, before: float, steps: int = 1) -> float:
    return ascent.moved(tensor(level), tensor(kl), tensor(before), limits=LIMITS, steps=steps).item()


@given(positive, st.floats(*LIMITS), st.integers(1, 50))
def test_a_policy_that_rests_on_its_budget_keeps_its_level(target: float, level: float, steps: int) -> None:
    assert moved(DualAscent(target=target), level, target, target, steps) == pytest.approx(level, abs=1e-12)


@given(positive, st.floats(0, 5), st.floats(0, 5), st.integers(1, 50), st.floats(1e-3, 0.1), st.floats(0, 90))
def test_a_step_is_the_formula(
    target: float, here: float, there: float, steps: int, rate: float, horizon: float
) -> None:
    now, before = (min(max(share - 1.0, -1.0), 1.0) for share in (here, there))
    wanted = min(max(-2.0 + rate * (steps * now + horizon * (now - before)), LIMITS[0]), LIMITS[1])
    found = moved(DualAscent(target=target, rate=rate, horizon=horizon), -2.0, here * target, there * target, steps)
    assert found == pytest.approx(wanted, abs=1e-9)


@given(positive, st.floats(1.01, 9))
def test_more_than_the_budget_raises_beta_and_less_lowers_it(target: float, factor: float) -> None:
    ascent = DualAscent(target=target)
    assert moved(ascent, -1.0, target * factor, target * factor) > -1.0
    assert moved(ascent, -1.0, target / factor, target / factor) < -1.0


@pytest.mark.parametrize(("kl", "bound"), [(0.0, LIMITS[0]), (9.0, LIMITS[1])])
def test_a_level_that_was_held_at_a_bound_leaves_it_with_the_first_estimate_that_says_so(
    kl: float, bound: float
) -> None:
    ascent, level = DualAscent(target=1.0, horizon=0.0), 0.0
    for _ in range(2000):
        level = moved(ascent, level, kl, kl)
    assert level == pytest.approx(bound, abs=1e-12)
    other = 2.0 - kl / 4.5  # as far on the other side
    assert moved(ascent, level, other, other) == pytest.approx(bound + math.copysign(0.1, other - 1.0), abs=1e-12)


def test_many_runs_move_as_each_alone() -> None:
    targets, levels, kls, before = torch.rand(4, 3, 5, dtype=torch.float64).unbind()
    together = DualAscent(target=targets).moved(levels, kls, before, limits=LIMITS)
    for at in ((0, 0), (2, 4)):
        alone = moved(DualAscent(target=targets[at].item()), *(each[at].item() for each in (levels, kls, before)))
        assert together[at].item() == pytest.approx(alone, abs=1e-12)


@pytest.mark.parametrize("start", [0.03, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("lag", [5, 30, 100])
def test_a_policy_that_follows_beta_slowly_ends_on_the_budget_from_every_start(start: float, lag: int) -> None:
    # Where the policy would rest, KL = (0.4/β)², and it gets there over `lag` steps.
    ascent, level, kl, before = DualAscent(target=2.0), math.log(start), 0.0, 0.0
    for _ in range(1500):
        kl += ((0.4 / math.exp(level)) ** 2 - kl) / lag
        level, before = moved(ascent, level, kl, before), kl
    assert kl == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": 0.0}, "`beta.learning.target_kl` must be a positive number, but is 0.0 instead."),
        ({"target": True}, "`beta.learning.target_kl` must be a positive number, but is True instead."),
        ({"target": 1.0, "rate": 0.0}, "`beta.learning.level_rate` must be a positive number, but is 0.0 instead."),
        ({"target": 1.0, "horizon": -1.0}, "`beta.learning.level_horizon` must be at least 0, but is -1.0 instead."),
    ],
)
def test_a_controller_that_cannot_work_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        DualAscent(**settings)
    assert str(error.value) == message
