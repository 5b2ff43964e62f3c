import math

import pytest
import torch

from betahead.losses import links
from betahead.losses.table import LOSSES

ZERO, HALF = torch.zeros(1), torch.full((1,), 0.5)
LINKS = {kind: row for kind, row in LOSSES.items() if row.reads == "margin"}


def test_the_values_at_margin_zero_are_those_of_the_docstrings() -> None:
    for smoothing in (0.0, 0.1, 0.4):
        for link in (links.sigmoid, links.robust):
            assert link(ZERO, HALF, label_smoothing=smoothing).item() == pytest.approx(math.log(2))
        assert links.simpo(ZERO + 0.7, HALF, label_smoothing=smoothing, simpo_gamma=0.7).item() == pytest.approx(
            math.log(2)
        )
    assert links.hinge(ZERO, HALF).item() == 1.0
    assert links.ipo(ZERO, HALF).item() == 1.0
    assert links.discopop(ZERO, HALF).item() == pytest.approx((math.log(2) + 1) / 2)
    assert links.exo_pair(ZERO, HALF, label_smoothing=0.2).item() == pytest.approx(
        -math.log(2) - math.log(0.2 * 0.8) / 2
    )


def test_the_hinge_is_exactly_zero_from_one_on() -> None:
    assert links.hinge(torch.tensor([1.0, 2.0, 50.0]), torch.ones(3)).tolist() == [0.0, 0.0, 0.0]


def test_exo_is_zero_with_no_slope_where_the_policy_says_what_the_labels_do() -> None:
    z = torch.tensor([math.log(0.9 / 0.1)], dtype=torch.float64, requires_grad=True)
    loss = links.exo_pair(z, z.detach(), label_smoothing=0.1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert z.grad is not None and z.grad.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", sorted(LINKS))
def test_extreme_margins_stay_finite_with_finite_gradients(kind: str) -> None:
    z = torch.tensor([-1e4, 1e4], requires_grad=True)
    smoothing = {} if LINKS[kind].smooths == "no" else {"label_smoothing": 0.2}
    loss = LINKS[kind].loss(z, torch.ones(2), **smoothing)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert z.grad is not None and z.grad.isfinite().all()
