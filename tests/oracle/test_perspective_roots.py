"""A head that descends the perspective on given margins ends at the root that scalar mathematics gives, or at its band.

The oracle is bisection on plain floats. Every prompt has a log β of its own in a linear head, through a one-hot hidden
state, and the margins are held, so that the head alone learns.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.learned import LearnedBeta
from betahead.beta.perspective import quadratic
from betahead.losses.preference import preference_loss
from betahead.types import PromptFeatures, Shaping

BETA_0 = 0.1
MARGINS = (-60.0, -13.0, -2.0, 0.5, 4.0, 9.0, 25.0, 70.0)


def entropy(z: float) -> float:
    """H(σ(z)), without a difference of like numbers at large |z|."""
    z = abs(z)
    return math.log1p(math.exp(-z)) + z * math.exp(-z) / (1 + math.exp(-z))


def root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function passes 0, or the end that is nearest to it."""
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return math.sqrt(low * high)


def best_tau(us: Sequence[float], regulariser: str, rho: float, low: float, high: float) -> float:
    """The τ at which the mean derivative of F by τ is 0: mean H(σ(u/τ)) − log 2 + ρ, or + 2ρτ."""

    def slope(tau: float) -> float:
        pull = rho if regulariser == "linear" else 2 * rho * tau
        return sum(entropy(u / tau) for u in us) / len(us) - math.log(2) + pull

    return root(slope, low, high)


def learned_tau(margins: torch.Tensor, **settings: Any) -> torch.Tensor:
    """τ of every prompt after the head has learned on its margins, one column for each pair of a prompt."""
    prompts, pairs = margins.shape
    rule = LearnedBeta(initial_beta=BETA_0, learning="perspective", **settings)
    rule.build(prompts, seed=0)
    rule.double()
    for name, parameter in rule.head.named_parameters():
        parameter.requires_grad_(name == "net.last.weight")
    features = PromptFeatures(
        pairs=prompts * pairs,
        log_ppl=torch.zeros(prompts * pairs, dtype=torch.float64),
        has_ppl=torch.ones(prompts * pairs, dtype=torch.bool),
        last_hidden=torch.eye(prompts, dtype=torch.float64).repeat_interleave(pairs, 0),
    )
    optimizer = torch.optim.Adam([rule.head.net.last.weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 500)
    for _ in range(500):
        optimizer.zero_grad()
        preference_loss(margins.flatten(), rule(features, margins.flatten())).sum().backward()
        optimizer.step()
        schedule.step()
    return BETA_0 / rule(features, margins.flatten()).beta.detach()[::pairs]


CASES: list[tuple[dict[str, Any], tuple[float, float]]] = [
    ({"form": "direct"}, (1e-3, 30.0)),
    ({"form": "direct", "bounds": (0.05, 0.2)}, (0.05, 0.2)),
    ({"form": "banded", "ppl_exponent": 0.0, "max_correction": 0.4}, (0.06, 0.14)),
]


@pytest.mark.parametrize(("settings", "band"), CASES, ids=[str(settings) for settings, _ in CASES])
@pytest.mark.parametrize("rho", [0.05, 0.3])
def test_one_pair_a_prompt_gives_the_linear_closed_form_in_the_reachable_band(
    settings: dict[str, Any], band: tuple[float, float], rho: float
) -> None:
    k = root(lambda k: math.log(2) - rho - entropy(k), 1e-6, 1e3)
    low, high = BETA_0 / band[1], BETA_0 / band[0]
    wanted = [min(max(abs(BETA_0 * h) / k, low), high) for h in MARGINS]
    found = learned_tau(torch.tensor(MARGINS, dtype=torch.float64)[:, None], regulariser="linear", rho=rho, **settings)
    assert found.tolist() == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(("settings", "band"), CASES, ids=[str(settings) for settings, _ in CASES])
def test_one_pair_a_prompt_gives_the_quadratic_root_in_the_reachable_band(
    settings: dict[str, Any], band: tuple[float, float]
) -> None:
    low, high = BETA_0 / band[1], BETA_0 / band[0]
    wanted = [best_tau([BETA_0 * h], "quadratic", 0.1, low, high) for h in MARGINS]
    found = learned_tau(torch.tensor(MARGINS, dtype=torch.float64)[:, None], rho=0.1, **settings)
    assert found.tolist() == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(("regulariser", "rho"), [("linear", 0.1), ("linear", 0.5), ("quadratic", 0.1)])
def test_several_pairs_a_prompt_give_the_root_of_their_mean(regulariser: str, rho: float) -> None:
    margins = 20 * torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = [
        best_tau([BETA_0 * h for h in row], regulariser, rho, BETA_0 / 30, BETA_0 / 1e-3) for row in margins.tolist()
    ]
    found = learned_tau(margins, form="direct", regulariser=regulariser, rho=rho)
    assert found.tolist() == pytest.approx(wanted, rel=0.01)


def test_the_constants_of_the_linear_closed_form_are_those_of_the_theory_page() -> None:
    for rho, k in {0.05: 0.649, 0.1: 0.943, 0.3: 1.870, 0.5: 2.983}.items():
        assert root(lambda k, rho=rho: math.log(2) - rho - entropy(k), 1e-6, 1e3) == pytest.approx(k, abs=6e-4)


def expected(u: float, tau: float, p: float, rho: float) -> float:
    """F of a prompt whose preferred answer wins with probability p, by the package's own equation."""
    taus = torch.tensor([tau, tau], dtype=torch.float64)
    us = torch.tensor([u, -u], dtype=torch.float64)
    shaping = Shaping(beta=BETA_0 / taus, target=torch.zeros_like(us), weight=taus, penalty=quadratic(taus, rho))
    won, lost = preference_loss(us / BETA_0, shaping).tolist()
    return p * won + (1 - p) * lost


place = st.tuples(st.floats(-20, 20), st.floats(0.05, 20))


@given(place, place, st.floats(0.02, 0.98), st.floats(0.01, 2), st.floats(0.1, 0.9))
def test_the_quadratic_perspective_is_strictly_convex_so_that_its_optimum_is_the_only_one(
    here: tuple[float, float], there: tuple[float, float], p: float, rho: float, share: float
) -> None:
    between = tuple(share * a + (1 - share) * b for a, b in zip(here, there, strict=True))
    ends = share * expected(*here, p, rho) + (1 - share) * expected(*there, p, rho)
    # ρτ² alone is below its chord by ρ·s(1 − s)·Δτ².
    least = rho * share * (1 - share) * (here[1] - there[1]) ** 2
    assert expected(between[0], between[1], p, rho) <= ends - least + 1e-9 * (1 + abs(ends))


@given(st.floats(0.55, 0.97), st.floats(0.02, 1.0), st.floats(0.01, 3.0))
def test_the_slope_by_tau_along_the_best_margins_changes_sign_once_at_the_closed_form(
    p: float, rho: float, factor: float
) -> None:
    tau = (math.log(2) - entropy(math.log(p / (1 - p)))) / (2 * rho)
    ladder = [tau * (1 + factor) ** step for step in (-2, -1, 0, 1, 2)]
    values = [expected(t * math.log(p / (1 - p)), t, p, rho) for t in ladder]
    assert all(a > b for a, b in pairwise(values[:3]))
    assert all(a < b for a, b in pairwise(values[2:]))
