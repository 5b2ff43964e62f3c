import math

import pytest
import torch

from betahead.losses import on_batch
from betahead.losses.anchor import sft
from betahead.losses.links import sigmoid


def draw(pairs: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    first, second, beta = torch.randn(3, pairs, generator=rng, dtype=torch.float64)
    return 5 * first, 5 * second, beta.exp()


def test_dr_dpo_lies_between_the_smallest_loss_and_the_mean_and_reaches_both() -> None:
    z, _, beta = draw()
    losses = sigmoid(z, beta)
    found = on_batch.dr_dpo(z, beta)
    assert found.shape == z.shape
    assert len(set(found.tolist())) == 1
    assert losses.min() < found[0] < losses.mean()
    torch.testing.assert_close(on_batch.dr_dpo(z, beta, dr_dpo_beta=1e8)[0], losses.mean(), rtol=1e-6, atol=0)
    torch.testing.assert_close(on_batch.dr_dpo(z, beta, dr_dpo_beta=1e-4)[0], losses.min(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("temperature", [1e6, 1e12])
def test_dr_dpo_of_a_high_temperature_is_the_mean_in_float32_too(temperature: float) -> None:
    z, _, beta = (leaf.float() for leaf in draw())
    found = on_batch.dr_dpo(z, beta, dr_dpo_beta=temperature)[0]
    torch.testing.assert_close(found, sigmoid(z, beta).mean(), rtol=2e-5, atol=0)


def test_dr_dpo_weighs_the_gradient_of_a_pair_by_how_small_its_loss_is() -> None:
    z, _, beta = draw()
    z.requires_grad_()
    (found,) = torch.autograd.grad(on_batch.dr_dpo(z, beta, dr_dpo_beta=0.7).mean(), z)
    losses = sigmoid(z, beta)
    (plain,) = torch.autograd.grad(losses.sum(), z)
    torch.testing.assert_close(found, (-losses / 0.7).softmax(dim=0).detach() * plain)


def test_one_pair_alone_has_its_own_loss() -> None:
    first, second, beta = draw(1)
    torch.testing.assert_close(on_batch.dr_dpo(first, beta), sigmoid(first, beta))
    plain = sigmoid(beta * (first - second), beta)
    torch.testing.assert_close(on_batch.aot(first, second, beta), plain)
    torch.testing.assert_close(on_batch.aot_unpaired(first, second, beta), plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_order_of_the_batch_changes_no_loss_and_no_gradient(smoothing: float) -> None:
    first, second, beta = (leaf.requires_grad_() for leaf in draw())
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    losses = {
        "dr_dpo": lambda a, b, beta: on_batch.dr_dpo(a - b, beta, label_smoothing=smoothing),
        "aot": lambda a, b, beta: on_batch.aot(a, b, beta, label_smoothing=smoothing),
        "aot_unpaired": lambda a, b, beta: on_batch.aot_unpaired(a, b, beta, label_smoothing=smoothing),
        "sft": lambda a, *_: sft(a, torch.ones(len(a), dtype=torch.long)),
    }
    for name, loss in losses.items():
        straight, mixed = loss(first, second, beta).mean(), loss(first[order], second[order], beta[order]).mean()
        torch.testing.assert_close(mixed, straight, msg=name)
        for one, other in zip(
            torch.autograd.grad(straight, (first, second, beta), allow_unused=True),
            torch.autograd.grad(mixed, (first, second, beta), allow_unused=True),
            strict=True,
        ):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(other, one, msg=name)


def test_with_one_beta_a_dominating_margin_is_what_is_asked_for_and_not_each_pair() -> None:
    policy, beta = torch.tensor([3.0, 1.0, 2.0]), torch.ones(3)
    reference = torch.tensor([0.0, 2.0, 1.0])
    torch.testing.assert_close(on_batch.aot(policy, reference, beta), torch.full((3,), math.log1p(math.exp(-1.0))))
    assert on_batch.aot(policy, policy.flip(0), beta).tolist() == pytest.approx([math.log(2)] * 3)


def test_an_answer_counts_in_the_anchor_by_its_tokens() -> None:
    found = sft(torch.tensor([-4.0, -30.0]), torch.tensor([2, 8]))
    assert found.mean().item() == pytest.approx(3.4)
    assert sft(torch.tensor([0.0]), torch.tensor([0])).tolist() == [0.0]
