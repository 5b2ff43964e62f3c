"""Adaptive preference scaling against a search for the smallest value, and against its code's Newton steps."""

import math

import pytest
import torch

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.adaptive_temperature import best_tau, newton_tau, saturation
from betahead.losses.preference import preference_loss
from betahead.types import PromptFeatures

US = [-9.0, -1.0, -0.3, 0.0, 0.05, 0.7, 1.0, 2.5, 40.0]
BOUNDS = (0.1, 5.0)


def objective(u: float, tau: float, rho: float, regulariser: str) -> float:
    z = u / tau
    nll = math.log1p(math.exp(-z)) if z > -700 else -z
    rest = (rho - math.log(2)) * tau if regulariser == "linear" else rho * tau**2 - math.log(2) * tau
    return tau * nll + rest


def searched(u: float, rho: float, regulariser: str) -> float:
    """Golden-section search: the objective has one minimum."""
    low, high = BOUNDS
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(200):
        one, other = high - golden * (high - low), low + golden * (high - low)
        if objective(u, one, rho, regulariser) <= objective(u, other, rho, regulariser):
            high = other
        else:
            low = one
    return (low + high) / 2


@pytest.mark.parametrize("regulariser", ["linear", "quadratic"])
@pytest.mark.parametrize("rho", [0.05, 0.1, 0.3, 0.5])
def test_tau_is_where_the_objective_is_smallest(rho: float, regulariser: str) -> None:
    found = best_tau(torch.tensor(US, dtype=torch.float64), regulariser=regulariser, rho=rho, bounds=BOUNDS)
    # A search by values finds a minimum to the square root of their rounding.
    assert found.tolist() == pytest.approx([searched(u, rho, regulariser) for u in US], abs=3e-7)


@pytest.mark.parametrize(("rho", "k"), [(0.05, 0.649), (0.1, 0.943), (0.3, 1.870), (0.5, 2.983)])
def test_the_linear_regulariser_holds_a_pair_at_a_constant(rho: float, k: float) -> None:
    assert saturation(rho) == pytest.approx(k, abs=6e-4)
    chance = 1 / (1 + math.exp(-saturation(rho)))
    entropy = -chance * math.log(chance) - (1 - chance) * math.log(1 - chance)
    assert entropy == pytest.approx(math.log(2) - rho, rel=1e-12)


def newton(u: float, rho: float, regulariser: str, steps: int) -> float:
    tau = 1.0
    for _ in range(steps):
        chance = 1 / (1 + math.exp(-u / tau))
        slope = (
            -math.log(2 * chance + 1e-6) + (1 - chance) * u / tau + (rho if regulariser == "linear" else 2 * rho * tau)
        )
        curve = u * u * tau**-3 * chance * (1 - chance) + (0.0 if regulariser == "linear" else 2 * rho)
        tau = min(max(tau - slope / max(curve, 1e-6), BOUNDS[0]), BOUNDS[1])
    return tau


@pytest.mark.parametrize("regulariser", ["linear", "quadratic"])
@pytest.mark.parametrize("rho", [0.05, 0.1, 0.3])
def test_the_newton_steps_are_those_of_the_code(rho: float, regulariser: str) -> None:
    found = newton_tau(torch.tensor(US, dtype=torch.float64), regulariser=regulariser, rho=rho, bounds=BOUNDS)
    assert found.tolist() == pytest.approx([newton(u, rho, regulariser, 5) for u in US], rel=1e-9)


def test_for_small_rho_five_newton_steps_are_nearly_there() -> None:
    u = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    for rho in (0.05, 0.1):
        given = {"regulariser": "linear", "rho": rho, "bounds": BOUNDS}
        torch.testing.assert_close(newton_tau(u, **given), best_tau(u, **given), rtol=2e-3, atol=0.0)


def test_for_larger_rho_newton_goes_to_and_fro_between_the_bounds_and_the_optimum_does_not() -> None:
    one = torch.tensor([1.0, -1.0], dtype=torch.float64)
    given = {"regulariser": "linear", "rho": 0.3, "bounds": BOUNDS}
    assert newton_tau(one, **given).tolist() == [0.1, 0.1]
    late = [newton_tau(one, **given, steps=steps) for steps in (200, 201)]
    assert float(late[0].min()) > 4.0 and late[1].tolist() == [0.1, 0.1]
    assert best_tau(one, **given).tolist() == pytest.approx([0.535, 0.535], abs=5e-4)


@pytest.mark.parametrize("solver", ["exact", "newton"])
@pytest.mark.parametrize("regulariser", ["linear", "quadratic"])
def test_loss_and_gradient_are_those_of_the_objective_with_tau_held(regulariser: str, solver: str) -> None:
    level, rho = 0.2, 0.2
    margins = [u / level for u in US]
    rule = AdaptiveScaling(level, rho, regulariser, *BOUNDS, solver=solver)
    margin = torch.tensor(margins, dtype=torch.float64, requires_grad=True)
    losses = preference_loss(margin, rule(PromptFeatures(pairs=len(US)), margin))
    (gradient,) = torch.autograd.grad(losses.sum(), margin)
    taus = [newton(u, rho, regulariser, 5) if solver == "newton" else None for u in US]
    exact = best_tau(torch.tensor(US, dtype=torch.float64), regulariser=regulariser, rho=rho, bounds=BOUNDS).tolist()
    taus = [tau or found for tau, found in zip(taus, exact, strict=True)]
    wanted = [objective(u, tau, rho, regulariser) for u, tau in zip(US, taus, strict=True)]
    slopes = [-level / (1 + math.exp(min(u / tau, 700))) for u, tau in zip(US, taus, strict=True)]
    assert losses.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert gradient.tolist() == pytest.approx(slopes, rel=1e-9, abs=1e-15)


def test_inside_the_bounds_every_pair_pushes_with_one_of_two_strengths() -> None:
    # The linear regulariser makes the loss piecewise linear: right pairs push with σ(−k), wrong ones with σ(k).
    margin = torch.tensor([-30.0, -12.0, 12.0, 30.0], dtype=torch.float64, requires_grad=True)
    shaping = AdaptiveScaling(0.1, 0.1)(PromptFeatures(pairs=4), margin)
    (gradient,) = torch.autograd.grad(preference_loss(margin, shaping).sum(), margin)
    right, wrong = (-0.1 / (1 + math.exp(sign * saturation(0.1))) for sign in (1, -1))
    assert gradient.tolist() == pytest.approx([wrong, wrong, right, right], rel=1e-9)
