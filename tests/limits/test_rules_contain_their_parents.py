"""With what makes it a rule turned off, every rule of the batch or the pair is its parent to the last bit."""

from collections.abc import Callable
from typing import Any

import pytest
import readings
import torch
from torch import Tensor

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.alpha_dpo import AlphaTarget
from betahead.beta.amapo import BelowMeanTarget
from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.dama import BoundedRatioBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.gamma_po import AllocatedTarget
from betahead.beta.quantile_controller import QuantileController
from betahead.beta.rule import BetaRule
from betahead.losses.preference import preference_loss
from betahead.types import Shaping

BETA = 0.3

DPO: dict[str, Callable[[], BetaRule]] = {
    "β-DPO without a response": lambda: BatchAdaptiveBeta(BETA, response=0.0, drop=0.0),
    "β-DPO on scaled gaps without a response": lambda: BatchAdaptiveBeta(BETA, 0.0, "beta", drop=0.0),
    "adaptive scaling between bounds of one": lambda: AdaptiveScaling(BETA, tau_min=1.0, tau_max=1.0),
    "Newton between bounds of one": lambda: AdaptiveScaling(BETA, tau_min=1.0, tau_max=1.0, solver="newton"),
    "the quadratic one between bounds of one": lambda: AdaptiveScaling(BETA, 2.0, "quadratic", 1.0, 1.0),
    "γ-PO without a target": lambda: AllocatedTarget(BETA, gamma=0.0, margin="reference_sums"),
    "a controller that is too slow": lambda: QuantileController(BETA, rate=1e-12, gain=1e-12, warmup=1),
    "a controller that warms up": lambda: QuantileController(BETA, rate=1.0, warmup=100),
}


def course(rule: BetaRule, dtype: torch.dtype) -> list[tuple[Shaping, Tensor, Tensor]]:
    """Shaping, losses without the penalty, and gradient of four steps."""
    seen = []
    rule.to(dtype)
    for step in range(4):
        features, margin = readings.given(readings.reading(9, seed=step, dtype=dtype), rule)
        margin.requires_grad_()
        shaping = rule(features, margin)
        losses = preference_loss(margin, shaping) - shaping.penalty
        seen.append((shaping, losses.detach(), torch.autograd.grad(losses.sum(), margin)[0]))
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DPO)
def test_it_is_dpo(name: str, dtype: torch.dtype) -> None:
    for found, wanted in zip(course(DPO[name](), dtype), course(FixedBeta(BETA), dtype), strict=True):
        for slot in ("beta", "target", "weight"):
            assert torch.equal(getattr(found[0], slot), getattr(wanted[0], slot)), slot
        assert found[0].penalty.unique().numel() == 1
        # The penalty is a constant of all pairs; adding and taking it away rounds.
        torch.testing.assert_close(found[1], wanted[1])
        assert torch.equal(found[2], wanted[2])


@pytest.mark.parametrize(
    "rule",
    [
        AlphaTarget(2.0, 0.5, 0.0),
        AlphaTarget(2.0, 1.0, 0.0, units="paper"),
    ],
    ids=["code", "paper"],
)
def test_alpha_dpo_without_alpha_is_simpo(rule: BetaRule) -> None:
    for step in range(3):
        pair = readings.reading(9, seed=step)
        features, margin = readings.given(pair, rule)
        chosen, rejected = pair.chosen_logps / pair.chosen_tokens, pair.rejected_logps / pair.rejected_tokens
        simpo = -torch.nn.functional.logsigmoid(2.0 * (chosen - rejected - 0.5))
        assert torch.equal(preference_loss(margin, rule(features, margin)), simpo)


def test_gamma_po_whose_shares_are_held_equal_is_simpo() -> None:
    rule = AllocatedTarget(2.0, 0.5, temperature=1e12).double()
    target = readings.shaped(rule, readings.reading(9)).target
    torch.testing.assert_close(target, torch.full_like(target, 0.5), rtol=1e-11, atol=0.0)


def test_amapo_of_one_pair_and_gamma_po_without_a_target_are_simpo_without_one() -> None:
    for rule in (BelowMeanTarget(2.0), AllocatedTarget(2.0, gamma=0.0)):
        features, margin = readings.given(readings.reading(1), rule)
        simpo = -torch.nn.functional.logsigmoid(2.0 * margin)
        assert torch.equal(preference_loss(margin, rule(features, margin)), simpo)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_dama_is_dpo_where_all_margins_have_always_been_the_same(momentum: float) -> None:
    rule = BoundedRatioBeta(BETA, momentum=momentum, start="corrected", drop=0.0)
    for _ in range(3):
        margin = torch.full((5,), 0.7)
        features: Any = readings.given(readings.reading(5), rule)[0]
        torch.testing.assert_close(rule(features, margin).beta, torch.full((5,), BETA))
