"""The mathematics of held-out learning: coefficient, its slope, and the chain into the head."""

import math

import pytest
import tiny
import torch
from torch import Tensor

from betahead.beta.heldout import beta_slopes, chained, coefficient, coefficient_slope, held_out_loss
from betahead.losses.links import robust, sigmoid

LEVEL = 0.3
LINKS = {"sigmoid": sigmoid, "robust": robust}


def a_few(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    beta = 0.05 + torch.rand(7, generator=rng, dtype=torch.float64)
    margin = 8.0 * torch.randn(7, generator=rng, dtype=torch.float64)
    return beta, margin


def row(beta: Tensor, margin: Tensor, kind: str, smoothing: float) -> Tensor:
    return LEVEL / beta * LINKS[kind](beta * margin, beta, label_smoothing=smoothing)


def test_the_coefficient_is_the_derivative_of_the_training_row_by_the_margin() -> None:
    beta, margin = a_few()
    margin.requires_grad_()
    (wanted,) = torch.autograd.grad(row(beta, margin, "sigmoid", 0.0).sum(), margin)
    torch.testing.assert_close(coefficient(beta, margin, LEVEL), wanted, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(("kind", "smoothing"), [("sigmoid", 0.0), ("sigmoid", 0.2), ("robust", 0.2)])
def test_its_slope_is_the_derivative_by_beta_and_smoothing_does_not_change_it(kind: str, smoothing: float) -> None:
    beta, margin = a_few()
    beta.requires_grad_()
    margin.requires_grad_()
    (push,) = torch.autograd.grad(row(beta, margin, kind, smoothing).sum(), margin, create_graph=True)
    (wanted,) = torch.autograd.grad(push.sum(), beta)
    torch.testing.assert_close(coefficient_slope(beta, margin, LEVEL), wanted, rtol=1e-10, atol=1e-12)


def test_beta_has_no_say_at_a_margin_of_zero() -> None:
    beta, _ = a_few()
    still = torch.zeros_like(beta)
    assert coefficient_slope(beta, still, LEVEL).tolist() == [0.0] * 7
    assert coefficient(beta, still, LEVEL).tolist() == pytest.approx([-LEVEL / 2] * 7)


def test_the_held_out_loss_is_log_2_at_a_margin_of_zero_and_falls_with_the_margin() -> None:
    loss = held_out_loss(torch.tensor([-1.0, 0.0, 1.0]), LEVEL)
    assert loss[1].item() == pytest.approx(math.log(2.0))
    assert loss[0] > loss[1] > loss[2]


def test_a_slope_is_minus_the_share_of_a_pair_in_what_beta_changes_along_the_step() -> None:
    beta, margin = a_few()
    along = torch.linspace(-1.0, 1.0, 7, dtype=torch.float64)
    found = beta_slopes(beta, margin, along, level=LEVEL, pairs=28)
    for i in range(7):
        z = (beta[i] * margin[i]).item()
        falls = math.exp(-z) / (1 + math.exp(-z)) ** 2
        assert found[i].item() == pytest.approx(-LEVEL * margin[i].item() * falls * along[i].item() / 28, rel=1e-12)


def test_slopes_reach_every_parameter_of_a_head_and_leave_what_it_has_as_gradient_alone() -> None:
    rule = tiny.built(net="mlp", form="direct", scatter=0.2)
    own = list(rule.head.parameters())
    for parameter in own:
        parameter.grad = torch.full_like(parameter, 3.0)
    beta = rule.explain(tiny.features(4)).beta
    slopes = torch.tensor([1.0, -2.0, 0.5, 0.0])
    found = chained(beta, slopes, own)
    assert all((p.grad == 3.0).all() for p in own)
    wanted = torch.autograd.grad((slopes * rule.explain(tiny.features(4)).beta).sum(), own)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)


def test_a_parameter_that_beta_does_not_depend_on_gets_zero() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    found = chained(2.0 * used, torch.tensor([1.0, 3.0]), [used, unused])
    assert [one.tolist() for one in found] == [[2.0, 6.0], [0.0, 0.0, 0.0]]
