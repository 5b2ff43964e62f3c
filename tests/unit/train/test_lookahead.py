"""The next step of an optimizer is foreseen, and weights that were moved come back."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from betahead.errors import ConfigError
from betahead.train.lookahead import NextStep, check_foreseeable, clip_factor, put_back

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda ps: SGD(ps, lr=0.1),
    "sgd with decay": lambda ps: SGD(ps, lr=0.1, weight_decay=0.3),
    "momentum": lambda ps: SGD(ps, lr=0.1, momentum=0.9, dampening=0.2),
    "nesterov": lambda ps: SGD(ps, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda ps: Adam(ps, lr=0.01),
    "adam with decay": lambda ps: Adam(ps, lr=0.01, weight_decay=0.3),
    "adamw": lambda ps: AdamW(ps, lr=0.01, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-3),
    "adamw fused": lambda ps: AdamW(ps, lr=0.01, weight_decay=0.3, fused=True),
}


def parameters() -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for shape in ((3, 4), (5,))]


def give_gradients(ps: list[nn.Parameter], seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for p in ps:
        p.grad = torch.randn(p.shape, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_weights_after_the_step_are_those_that_the_optimizer_makes(name: str) -> None:
    ps = parameters()
    optimizer: Optimizer = OPTIMIZERS[name](ps)
    for seed in range(1, 5):
        give_gradients(ps, seed)
        ahead = NextStep(optimizer)
        before = [p.detach().clone() for p in ps]
        foreseen = [ahead.weights(p) for p in ps]
        assert all(torch.equal(p, b) for p, b in zip(ps, before, strict=True))
        optimizer.step()
        for p, wanted in zip(ps, foreseen, strict=True):
            torch.testing.assert_close(p.detach(), wanted, rtol=1e-12, atol=1e-13)


def moved_by(optimizer: Optimizer, p: nn.Parameter, change: Tensor) -> Tensor:
    """How much further a change of the gradient moves the parameter."""
    kept, without = p.grad, NextStep(optimizer).weights(p)
    p.grad = kept + change
    found = NextStep(optimizer).weights(p) - without
    p.grad = kept
    return found


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "adam" not in name])
def test_the_gain_of_sgd_is_exact(name: str) -> None:
    ps = parameters()
    optimizer: Optimizer = OPTIMIZERS[name](ps)
    for seed in range(1, 4):
        give_gradients(ps, seed)
        for p in ps:
            change = torch.ones_like(p)
            wanted = -moved_by(optimizer, p, change)
            found = torch.as_tensor(NextStep(optimizer).gain(p), dtype=torch.float64).expand_as(p)
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0.0)
        optimizer.step()


def test_the_gain_of_adam_is_that_of_its_first_moment_over_its_second_as_it_will_be() -> None:
    ps = parameters()
    optimizer = AdamW(ps, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3)
    square: list[Any] = [0.0, 0.0]
    for step in range(1, 5):
        give_gradients(ps, step)
        for i, p in enumerate(ps):
            square[i] = 0.95 * square[i] + 0.05 * p.grad.square()
            wanted = 0.01 * (0.2 / (1 - 0.8**step)) / ((square[i] / (1 - 0.95**step)).sqrt() + 1e-3)
            torch.testing.assert_close(NextStep(optimizer).gain(p), wanted, rtol=1e-12, atol=0.0)
        optimizer.step()


def test_a_long_memory_makes_the_gain_of_adam_nearly_exact() -> None:
    ps = parameters()
    optimizer = Adam(ps, lr=0.01)
    for seed in range(1, 400):
        give_gradients(ps, seed)
        optimizer.step()
    give_gradients(ps, 401)
    for p in ps:
        wanted = -moved_by(optimizer, p, torch.full_like(p, 1e-6)) / 1e-6
        torch.testing.assert_close(NextStep(optimizer).gain(p), wanted, rtol=0.05, atol=0.0)


def test_clipping_scales_the_gain_and_not_the_step_that_has_it_already() -> None:
    ps = parameters()
    optimizer = SGD(ps, lr=0.1)
    give_gradients(ps, 1)
    given = ps[1].grad.clone()
    norm = nn.utils.clip_grad_norm_(ps, 0.5)
    factor = clip_factor(norm, 0.5)
    assert 0.0 < factor < 1.0
    ahead = NextStep(optimizer, factor)
    assert torch.equal(ahead.weights(ps[0]), ps[0].detach() - 0.1 * ps[0].grad)
    torch.testing.assert_close(ahead.gradient(ps[1]), given, rtol=1e-5, atol=0.0)
    assert float(ahead.gain(ps[0])) == pytest.approx(0.1 * factor.item())
    assert clip_factor(torch.tensor(0.4), 0.5).item() == 1.0


@pytest.mark.parametrize(
    ("optimizer", "shown"),
    [
        (torch.optim.Adagrad, "Adagrad"),
        (torch.optim.NAdam, "NAdam"),
        (lambda ps: AdamW(ps, amsgrad=True), "AdamW with amsgrad"),
        (lambda ps: SGD(ps, maximize=True), "SGD with maximize"),
    ],
)
def test_an_optimizer_whose_step_is_not_known_is_refused(optimizer: Any, shown: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_foreseeable(optimizer(parameters()))
    assert str(refused.value) == (
        "`optim` must be SGD, Adam or AdamW of torch with learning.kind: heldout, which looks one step ahead, but is "
        f"{shown} instead; use adamw_torch."
    )


def move_and_fail(ps: list[nn.Parameter]) -> None:
    with put_back(ps):
        with torch.no_grad():
            for p in ps:
                p.add_(1e-3).mul_(1.1)
        raise KeyboardInterrupt


def test_weights_come_back_to_the_last_bit_whatever_happens_in_between() -> None:
    ps = parameters()
    before = [p.detach().clone() for p in ps]
    with pytest.raises(KeyboardInterrupt):
        move_and_fail(ps)
    assert all(torch.equal(p, b) for p, b in zip(ps, before, strict=True))
