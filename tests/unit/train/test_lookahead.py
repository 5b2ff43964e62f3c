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


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if "adam" in name])
def test_the_gain_of_adam_is_exact_and_may_be_negative(name: str) -> None:
    ps = parameters()
    optimizer: Optimizer = OPTIMIZERS[name](ps)
    give_gradients(ps, 1)
    optimizer.step()
    seen: list[Tensor] = []
    for seed in range(2, 6):
        give_gradients(ps, seed)
        for p in ps:
            change = torch.full_like(p, 1e-5)
            wanted = (moved_by(optimizer, p, -change) - moved_by(optimizer, p, change)) / 2e-5
            found = torch.as_tensor(NextStep(optimizer).gain(p))
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6 * wanted.abs().max().item())
            seen.append(found.flatten())
        optimizer.step()
    assert (torch.cat(seen) < 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_first_step_of_adam_is_a_sign_and_its_gain_next_to_nothing(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.ones(3, dtype=dtype))
    p.grad = torch.tensor([0.5, -2.0, 1e-3], dtype=dtype)
    wanted = 0.01 * 1e-8 / (p.grad.abs() + 1e-8).square()
    torch.testing.assert_close(torch.as_tensor(NextStep(Adam([p], lr=0.01)).gain(p)), wanted, rtol=1e-5, atol=0.0)


def test_the_gain_of_a_weight_that_never_had_a_gradient_is_finite() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = Adam([p], lr=0.01)
    for _ in range(2):
        p.grad = torch.zeros(3)
        enters = 0.1 / (1.0 - 0.9 ** (optimizer.state[p]["step"].item() + 1 if optimizer.state else 1))
        gain = torch.as_tensor(NextStep(optimizer).gain(p))
        torch.testing.assert_close(gain, torch.full((3,), 0.01 * enters / 1e-8), rtol=1e-5, atol=0.0)
        optimizer.step()


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
