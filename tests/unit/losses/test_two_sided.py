import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from betahead.losses import two_sided

ZERO, HALF = torch.zeros(1), torch.full((1,), 0.5)
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "nca_pair": two_sided.nca_pair,
    "bco_pair": two_sided.bco_pair,
    "bco": lambda chosen, rejected, beta: two_sided.bco(chosen, rejected, beta, shift=torch.tensor(0.3)),
    "sppo_hard": two_sided.sppo_hard,
    "apo_zero": two_sided.apo_zero,
    "apo_down": two_sided.apo_down,
    "cal_dpo": two_sided.cal_dpo,
}


def draw(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    chosen, rejected, beta = torch.randn(3, 6, generator=rng, dtype=torch.float64)
    return 5 * chosen, 5 * rejected, beta.exp()


def test_the_values_at_log_ratio_zero_are_those_of_the_docstrings() -> None:
    expected = {
        "nca_pair": 2 * math.log(2),
        "bco_pair": 2 * math.log(2),
        "sppo_hard": 2.0,
        "apo_zero": 1.0,
        "apo_down": 1.0,
        "cal_dpo": math.log(2) + 1.0,
    }
    for kind, value in expected.items():
        assert LOSSES[kind](ZERO, ZERO, HALF).item() == pytest.approx(value), kind
    shifted = two_sided.bco(ZERO + 0.6, ZERO + 0.6, HALF, shift=torch.tensor(0.3))
    assert shifted.item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("kind", LOSSES)
def test_a_beta_per_pair_equals_a_loop_over_scalar_betas(kind: str) -> None:
    chosen, rejected, beta = draw()
    together = LOSSES[kind](chosen, rejected, beta)
    for i in range(len(beta)):
        one = slice(i, i + 1)
        alone = LOSSES[kind](chosen[one], rejected[one], torch.full((1,), beta[i].item(), dtype=torch.float64))
        assert torch.equal(alone, together[one])


@pytest.mark.parametrize("kind", LOSSES)
def test_extreme_log_ratios_stay_finite_with_finite_gradients(kind: str) -> None:
    chosen, rejected = torch.tensor([-1e4, 1e4]).requires_grad_(), torch.tensor([1e4, -1e4]).requires_grad_()
    loss = LOSSES[kind](chosen, rejected, torch.ones(2))
    loss.sum().backward()
    assert loss.isfinite().all()
    for leaf in (chosen, rejected):
        assert leaf.grad is not None and leaf.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["bco_pair", "sppo_hard", "apo_zero", "cal_dpo"])
def test_swapping_the_answers_and_the_signs_changes_nothing_where_both_sides_are_alike(kind: str) -> None:
    chosen, rejected, beta = draw()
    torch.testing.assert_close(LOSSES[kind](-rejected, -chosen, beta), LOSSES[kind](chosen, rejected, beta))


@pytest.mark.parametrize("kind", LOSSES)
def test_raising_both_log_ratios_alike_is_seen(kind: str) -> None:
    chosen, rejected, beta = draw()
    assert (LOSSES[kind](chosen + 1, rejected + 1, beta) - LOSSES[kind](chosen, rejected, beta)).abs().min() > 1e-9


def test_without_a_shift_the_classifier_has_its_threshold_at_zero() -> None:
    chosen, rejected, beta = draw()
    unshifted = two_sided.bco(chosen, rejected, beta, shift=torch.tensor(0.0, dtype=torch.float64))
    assert torch.equal(unshifted, two_sided.bco_pair(chosen, rejected, beta))
