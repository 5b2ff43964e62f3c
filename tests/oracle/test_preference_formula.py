"""The one equation against float64 loops written from the papers' formulas."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from betahead.beta.fixed import FixedBeta
from betahead.losses.preference import preference_loss
from betahead.types import PromptFeatures, Shaping


def log_sigmoid(z: float) -> float:
    return min(z, 0.0) - math.log1p(math.exp(-abs(z)))


def formula(kind: str, d: float, beta: float, e: float) -> float:
    """The loss of a shifted margin d."""
    if kind == "hinge":
        return max(0.0, 1 - beta * d)
    if kind == "ipo":
        return (d - 1 / (2 * beta)) ** 2
    kept, flipped = -(1 - e) * log_sigmoid(beta * d), -e * log_sigmoid(-beta * d)
    return kept + flipped if kind == "sigmoid" else (kept - flipped) / (1 - 2 * e)


SMOOTHED = ("sigmoid", "robust")

Row = tuple[float, float, float, float, float]
rows = st.lists(
    st.tuples(
        st.floats(-60, 60),  # margin
        st.floats(0.01, 20),  # beta
        st.floats(-5, 5),  # target
        st.floats(0, 10),  # weight
        st.floats(-3, 3),  # penalty
    ),
    min_size=1,
    max_size=7,
)
kinds = st.sampled_from(["hinge", "ipo", "robust", "sigmoid"])
smoothings = st.floats(0, 0.45)


def loop(rows: list[Row], kind: str, e: float) -> list[float]:
    return [weight * formula(kind, h - target, beta, e) + penalty for h, beta, target, weight, penalty in rows]


def columns(rows: list[Row], dtype: torch.dtype) -> tuple[torch.Tensor, Shaping]:
    h, beta, target, weight, penalty = (torch.tensor(column, dtype=dtype) for column in zip(*rows, strict=True))
    return h, Shaping(beta=beta, target=target, weight=weight, penalty=penalty)


@given(rows, kinds, smoothings)
def test_every_pair_has_the_loss_of_the_formula(rows: list[Row], kind: str, e: float) -> None:
    e = e if kind in SMOOTHED else 0.0
    margin, shaping = columns(rows, torch.float64)
    found = preference_loss(margin, shaping, kind=kind, label_smoothing=e)
    assert found.shape == (len(rows),)
    assert found.tolist() == pytest.approx(loop(rows, kind, e), rel=1e-9, abs=1e-9)


@given(rows, kinds, smoothings)
def test_float32_follows_the_formula_to_its_precision(rows: list[Row], kind: str, e: float) -> None:
    e = e if kind in SMOOTHED else 0.0
    margin, shaping = columns(rows, torch.float32)
    found = preference_loss(margin, shaping, kind=kind, label_smoothing=e)
    assert found.dtype == torch.float32
    stored = [tuple(column[i].item() for column in vars(shaping).values()) for i in range(len(rows))]
    exact = [(h, *rest) for h, rest in zip(margin.tolist(), stored, strict=True)]
    scale = [abs(weight) * (1 + beta * (abs(h) + abs(t)) + (h - t) ** 2 + beta**-2) for h, beta, t, weight, _ in exact]
    for value, wanted, size in zip(found.tolist(), loop(exact, kind, e), scale, strict=True):
        assert abs(value - wanted) <= 2e-6 * (size + abs(wanted) + 3)


@given(rows, kinds)
def test_a_beta_per_pair_equals_a_loop_over_scalar_betas(rows: list[Row], kind: str) -> None:
    margin = torch.tensor([row[0] for row in rows])
    betas = [row[1] for row in rows]
    zeros = torch.zeros(len(rows))
    shaping = Shaping(beta=torch.tensor(betas), target=zeros, weight=zeros + 1, penalty=zeros)
    together = preference_loss(margin, shaping, kind=kind)
    for i, beta in enumerate(betas):
        alone = preference_loss(
            margin[i : i + 1], FixedBeta(beta)(PromptFeatures(pairs=1), margin[i : i + 1]), kind=kind
        )
        assert torch.equal(alone, together[i : i + 1])


# A curved loss at its minimum, where a coarse difference shows its own third derivative.
@example(rows=[(5.0, 0.1, 0.0, 1.0, 0.0)], kind="ipo", e=0.0)
@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.floats(0.1, 3), st.floats(-2, 2), st.floats(0.1, 3), st.floats(-1, 1)),
        min_size=1,
        max_size=4,
    ),
    kinds,
    smoothings,
)
def test_gradients_of_margin_and_all_four_slots_are_those_of_the_formula(rows: list[Row], kind: str, e: float) -> None:
    e = e if kind in SMOOTHED else 0.0
    # At the hinge's corner no derivative exists.
    rows = [row for row in rows if abs(1 - row[1] * (row[0] - row[2])) > 1e-3] or [(0.3, 0.5, 0.0, 1.0, 0.0)]
    leaves = [torch.tensor(column, dtype=torch.float64, requires_grad=True) for column in zip(*rows, strict=True)]
    shaping = Shaping(beta=leaves[1], target=leaves[2], weight=leaves[3], penalty=leaves[4])
    preference_loss(leaves[0], shaping, kind=kind, label_smoothing=e).sum().backward()

    step = 1e-6
    for slot, leaf in enumerate(leaves):
        assert leaf.grad is not None
        for i, row in enumerate(rows):
            up = [*row[:slot], row[slot] + step, *row[slot + 1 :]]
            down = [*row[:slot], row[slot] - step, *row[slot + 1 :]]
            (above,), (below,) = loop([tuple(up)], kind, e), loop([tuple(down)], kind, e)
            assert leaf.grad[i].item() == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-6)


@given(st.integers(2, 5), kinds)
def test_the_gradient_of_one_pair_touches_no_other_pair(count: int, kind: str) -> None:
    margin = torch.linspace(0.2, 1, count, dtype=torch.float64, requires_grad=True)
    beta = torch.linspace(0.1, 0.4, count, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(count, dtype=torch.float64)
    losses = preference_loss(margin, Shaping(beta=beta, target=zeros, weight=zeros + 1, penalty=zeros), kind=kind)
    for i in range(count):
        for leaf in (margin, beta):
            (gradient,) = torch.autograd.grad(losses[i], leaf, retain_graph=True)
            assert gradient.nonzero().flatten().tolist() == [i]
