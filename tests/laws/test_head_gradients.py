"""The head's gradients equal finite differences, in float64, at random weights."""

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from betahead.beta.learned import LearnedBeta
from betahead.losses.preference import preference_loss
from betahead.types import PromptFeatures

PAIRS = 5
WIDE = (1e-4, 1e4)
STEP = 1e-5
RULES = [{"net": net, **form, **learning} for net in tiny.NETS for form in tiny.FORMS for learning in tiny.LEARNING]


def name_of(rule: dict[str, Any]) -> str:
    return "-".join(str(value) for value in rule.values())


def scattered_rule(rule: dict[str, Any]) -> LearnedBeta:
    made = tiny.built(**rule, bounds=WIDE)
    made.double()
    made.calibrate(torch.tensor([1.3, 2.0], dtype=torch.float64))
    tiny.scattered(made, 0.3, seed=7)
    for name, value in made.mode.named_buffers():
        value.fill_({"level": 0.4, "log_level": 0.7, "centre": -0.2}.get(name, 0.0))
    return made


def loss_of(rule: LearnedBeta, features: PromptFeatures, margin: Tensor) -> Tensor:
    return preference_loss(margin, rule(features, margin)).mean()


@torch.no_grad()
def slope(rule: LearnedBeta, features: PromptFeatures, margin: Tensor, leaf: Tensor, direction: Tensor) -> float:
    """The central difference of the loss along a direction of one tensor."""
    start = leaf.clone()
    leaf.copy_(start + STEP * direction)
    above = loss_of(rule, features, margin)
    leaf.copy_(start - STEP * direction)
    below = loss_of(rule, features, margin)
    leaf.copy_(start)
    return ((above - below) / (2 * STEP)).item()


def directions(shape: torch.Size, rng: torch.Generator) -> list[Tensor]:
    """One random direction through all entries, and up to two single entries."""
    found = [torch.randn(shape, generator=rng, dtype=torch.float64)]
    count = max(1, shape.numel())
    for entry in torch.randperm(count, generator=rng)[:2].tolist():
        single = torch.zeros(count, dtype=torch.float64)
        single[entry] = 1.0
        found.append(single.reshape(shape))
    return found


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_every_parameter_of_the_head_has_the_gradient_of_finite_differences(rule: dict[str, Any]) -> None:
    made = scattered_rule(rule)
    features = tiny.features(PAIRS, seed=2, dtype=torch.float64)
    margin = torch.linspace(-3, 4, PAIRS, dtype=torch.float64)
    low, high = made(features, margin).beta.aminmax()
    assert WIDE[0] < low < high < WIDE[1]

    loss = loss_of(made, features, margin)
    loss.backward()
    rounding = 1e-9 * (1 + abs(loss.item()))
    names = [name for name, _ in made.named_parameters()]
    assert ("head.log_level" in names) == (rule["form"] == "banded")
    assert ("head.exponent" in names) == (rule.get("ppl_exponent") == "learned")
    rng = torch.Generator().manual_seed(1)
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        for direction in directions(parameter.shape, rng):
            wanted = slope(made, features, margin, parameter.data, direction)
            assert (parameter.grad * direction).sum().item() == pytest.approx(wanted, rel=1e-5, abs=rounding), name


@pytest.mark.parametrize("form", tiny.FORMS, ids=name_of)
@pytest.mark.parametrize("net", tiny.NETS)
def test_a_coupled_head_has_the_gradient_of_finite_differences_in_its_features(net: str, form: dict[str, Any]) -> None:
    made = scattered_rule({"net": net, **form, "couple": True})
    features = tiny.features(PAIRS, seed=3, dtype=torch.float64)
    margin = torch.linspace(-3, 4, PAIRS, dtype=torch.float64)
    read = {"log_ppl": features.log_ppl, "last_hidden": features.last_hidden, "hidden": features.hidden}
    unread = "last_hidden" if net == "transformer" else "hidden"
    for leaf in read.values():
        assert leaf is not None
        leaf.requires_grad_()
    loss_of(made, features, margin).backward()
    rng = torch.Generator().manual_seed(1)
    for name, leaf in read.items():
        assert leaf is not None
        if name == unread:
            assert leaf.grad is None
            continue
        assert leaf.grad is not None, name
        for direction in directions(leaf.shape, rng):
            wanted = slope(made, features, margin, leaf.data, direction)
            assert (leaf.grad * direction).sum().item() == pytest.approx(wanted, rel=1e-5, abs=1e-8), name


def test_one_scalar_gives_the_margin_its_own_partial_derivative_beside_the_heads() -> None:
    made = scattered_rule({"learning": "perspective"})
    features = tiny.features(PAIRS, dtype=torch.float64)
    margin = torch.linspace(-3, 4, PAIRS, dtype=torch.float64, requires_grad=True)
    shaping = made(features, margin)
    (whole,) = torch.autograd.grad(preference_loss(margin, shaping).sum(), margin)
    # The perspective's weight β₀/β cancels β in the derivative by h: −β₀·σ(−βh).
    torch.testing.assert_close(whole, -0.1 * torch.sigmoid(-shaping.beta * margin).detach())
