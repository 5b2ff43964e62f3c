import pytest
import torch

from betahead.losses.divergences import DIVERGENCES, alpha_divergence, forward_kl

RATIOS = torch.linspace(-4, 4, 17, dtype=torch.float64)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("coefficient", [-1.0, 0.0, 0.5, 2.0])
def test_a_score_grows_with_the_log_ratio_from_zero_where_the_policy_is_the_reference(
    name: str, coefficient: float
) -> None:
    score = DIVERGENCES[name]
    assert score(torch.zeros(1), coefficient).item() == pytest.approx(0.0, abs=1e-7)
    assert (score(RATIOS, coefficient).diff() > 0).all()
    ratio = torch.zeros(1, requires_grad=True)
    (slope,) = torch.autograd.grad(score(ratio, coefficient).sum(), ratio)
    assert slope.item() == pytest.approx(0.5 if name == "js_divergence" else 1.0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_extreme_log_ratios_stay_finite_with_finite_gradients(name: str) -> None:
    ratios = torch.tensor([-1e4, 1e4], requires_grad=True)
    score = DIVERGENCES[name](ratios, 0.5)
    score.sum().backward()
    assert score.isfinite().all()
    assert ratios.grad is not None and ratios.grad.isfinite().all()


def test_the_alpha_divergence_goes_from_the_forward_to_the_reverse_kl() -> None:
    torch.testing.assert_close(alpha_divergence(RATIOS, 0.0), forward_kl(RATIOS, 0.0))
    assert torch.equal(alpha_divergence(RATIOS, 1.0), RATIOS)
    torch.testing.assert_close(alpha_divergence(RATIOS, 1.0 + 2e-6), RATIOS, rtol=1e-4, atol=1e-4)
