"""Losses that TRL's DPO does not have, and a β per pair in those that it has, against float64 loops from the papers."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from betahead.losses.objective import objective_of
from betahead.losses.table import LOSSES
from betahead.types import PairLogps, ReferenceScores, Shaping

# log π of chosen and rejected under the policy, the same under the reference, numbers of tokens, β, target
Row = tuple[float, float, float, float, int, int, float, float]
rows_of_pairs = st.lists(
    st.tuples(*[st.floats(-9, 0)] * 4, *[st.integers(1, 9)] * 2, st.floats(0.05, 3), st.floats(-1, 1)),
    min_size=1,
    max_size=6,
)


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def smoothed(z: float, e: float) -> float:
    return (1 - e) * softplus(-z) + e * softplus(z)


def simpo(rows: list[Row], e: float, gamma: float = 0.7) -> float:
    z = [beta * (pc / nc - pr / nr - target) - gamma for pc, pr, _, _, nc, nr, beta, target in rows]
    return sum(smoothed(one, e) for one in z) / len(rows)


def sigmoid_norm(rows: list[Row], e: float) -> float:
    z = [beta * ((pc - rc) / nc - (pr - rr) / nr - target) for pc, pr, rc, rr, nc, nr, beta, target in rows]
    return sum(smoothed(one, e) for one in z) / len(rows)


def dr_dpo(rows: list[Row], e: float, temperature: float = 0.6) -> float:
    losses = [smoothed(beta * (pc - rc - pr + rr - target), e) for pc, pr, rc, rr, _, _, beta, target in rows]
    return -temperature * math.log(sum(math.exp(-one / temperature) for one in losses) / len(rows))


def cal_dpo(rows: list[Row], e: float) -> float:
    total = 0.0
    for pc, pr, rc, rr, _, _, beta, _ in rows:
        up, down = pc - rc, pr - rr
        total += softplus(-(up - down)) + ((up - 0.5 / beta) ** 2 + (down + 0.5 / beta) ** 2) / 2
    return total / len(rows)


def bco(rows: list[Row], e: float, shift: float = 0.4) -> float:
    rewards = [(beta * (pc - rc), beta * (pr - rr)) for pc, pr, rc, rr, _, _, beta, _ in rows]
    return sum(softplus(shift - up) + softplus(down - shift) for up, down in rewards) / len(rows)


def aot(rows: list[Row], e: float) -> float:
    ours = sorted(beta * (pc - pr - target) for pc, pr, _, _, _, _, beta, target in rows)
    theirs = sorted(beta * (rc - rr) for _, _, rc, rr, _, _, beta, _ in rows)
    return sum(smoothed(one - other, e) for one, other in zip(ours, theirs, strict=True)) / len(rows)


def aot_unpaired(rows: list[Row], e: float) -> float:
    up = sorted(beta * (pc - rc) for pc, _, rc, _, _, _, beta, _ in rows)
    down = sorted(beta * (pr - rr) for _, pr, _, rr, _, _, beta, _ in rows)
    return sum(smoothed(one - other, e) for one, other in zip(up, down, strict=True)) / len(rows)


def discopop(rows: list[Row], e: float, tau: float = 0.05) -> float:
    total = 0.0
    for pc, pr, rc, rr, _, _, beta, target in rows:
        z = beta * (pc - rc - pr + rr - target)
        blend = math.exp(-softplus(-z / tau))
        total += (1 - blend) * softplus(-z) + blend * math.exp(-z)
    return total / len(rows)


def exo_pair(rows: list[Row], e: float) -> float:
    total = 0.0
    for pc, pr, rc, rr, _, _, beta, target in rows:
        z = beta * (pc - rc - pr + rr - target)
        for sign, label in ((1, 1 - e), (-1, e)):
            total += math.exp(-softplus(-sign * z)) * (-softplus(-sign * z) - math.log(label))
    return total / len(rows)


def sft(rows: list[Row], e: float) -> float:
    return -sum(row[0] for row in rows) / sum(row[4] for row in rows)


# formula, the least smoothing (None for a loss without), settings
FORMULAS: dict[str, tuple[Callable[..., float], float | None, dict[str, Any]]] = {
    "simpo": (simpo, 0.0, {"simpo_gamma": 0.7}),
    "sigmoid_norm": (sigmoid_norm, 0.0, {}),
    "dr_dpo": (dr_dpo, 0.0, {"dr_dpo_beta": 0.6}),
    "cal_dpo": (cal_dpo, None, {}),
    "bco": (bco, None, {}),
    "aot": (aot, 0.0, {}),
    "aot_unpaired": (aot_unpaired, 0.0, {}),
    "discopop": (discopop, None, {}),
    "exo_pair": (exo_pair, 1e-3, {}),
    "sft": (sft, None, {}),
}


def leaves_of(rows: list[Row]) -> list[Tensor]:
    columns = list(zip(*rows, strict=True))
    return [torch.tensor(columns[i], dtype=torch.float64, requires_grad=True) for i in (0, 1, 6)]


def found_loss(rows: list[Row], leaves: list[Tensor], kind: str, e: float) -> Tensor:
    chosen, rejected, beta = leaves
    theirs, others, nc, nr, target = (torch.tensor([row[i] for row in rows]) for i in (2, 3, 4, 5, 7))
    ones = torch.ones_like(beta)
    policy = PairLogps(chosen=chosen, rejected=rejected, chosen_tokens=nc, rejected_tokens=nr)
    reference = ReferenceScores(chosen_logps=theirs.double(), rejected_logps=others.double())
    shaping = Shaping(beta=beta, target=target.double(), weight=ones, penalty=torch.zeros_like(beta))
    objective = objective_of(kind, label_smoothing=e, **FORMULAS[kind][2])
    return objective.losses(policy, reference, shaping, shift=torch.tensor(0.4, dtype=torch.float64)).mean()


@pytest.mark.parametrize("kind", FORMULAS)
@given(rows=rows_of_pairs, smoothing=st.floats(0, 0.45))
def test_the_loss_is_that_of_the_formula(kind: str, rows: list[Row], smoothing: float) -> None:
    formula, least, _ = FORMULAS[kind]
    e = 0.0 if least is None else max(smoothing, least)
    rows = [tuple(torch.tensor(x).item() if isinstance(x, float) else x for x in row) for row in rows]
    wanted = formula(rows, e)
    assert found_loss(rows, leaves_of(rows), kind, e).item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kind", FORMULAS)
def test_gradients_of_both_answers_and_of_beta_are_those_of_the_formula(kind: str) -> None:
    rng = torch.Generator().manual_seed(3)
    numbers = torch.rand(5, 8, generator=rng).tolist()
    rows: list[Row] = [
        (-4 * a, -4 * b, -4 * c, -4 * d, 1 + int(8 * n), 1 + int(8 * m), 0.2 + beta, target - 0.5)
        for a, b, c, d, n, m, beta, target in numbers
    ]
    rows = [tuple(torch.tensor(x).item() if isinstance(x, float) else x for x in row) for row in rows]
    formula, least, _ = FORMULAS[kind]
    e, step = (0.0 if least is None else 0.2), 1e-5
    leaves = leaves_of(rows)
    found_loss(rows, leaves, kind, e).backward()
    for leaf, slot in zip(leaves, (0, 1, 6), strict=True):
        for i, row in enumerate(rows):
            up, down = ([*row[:slot], row[slot] + sign * step, *row[slot + 1 :]] for sign in (1, -1))
            above, below = (formula([*rows[:i], tuple(moved), *rows[i + 1 :]], e) for moved in (up, down))
            gradient = 0.0 if leaf.grad is None else leaf.grad[i].item()
            assert gradient == pytest.approx((above - below) / (2 * step), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("kind", [kind for kind, row in LOSSES.items() if not row.on_batch])
def test_beside_other_betas_a_pair_has_the_loss_and_the_gradients_that_it_has_alone(kind: str) -> None:
    numbers = torch.rand(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens = torch.arange(1, 6)
    objective = objective_of(kind, label_smoothing=0.0 if LOSSES[kind].smooths == "no" else 0.2)

    def losses(leaves: list[Tensor], pairs: slice) -> Tensor:
        chosen, rejected, beta = (leaf[pairs] for leaf in leaves)
        policy = PairLogps(
            chosen=chosen, rejected=rejected, chosen_tokens=tokens[pairs], rejected_tokens=tokens.flip(0)[pairs]
        )
        reference = ReferenceScores(chosen_logps=-numbers[3][pairs], rejected_logps=-numbers[2][pairs])
        zeros = torch.zeros_like(beta)
        shaping = Shaping(beta=beta, target=zeros, weight=zeros + 1, penalty=zeros)
        return objective.losses(policy, reference, shaping, shift=torch.tensor(0.4, dtype=torch.float64))

    def leaves() -> list[Tensor]:
        return [one.clone().requires_grad_() for one in (-4 * numbers[0], -4 * numbers[1], 0.2 + 3 * numbers[2])]

    whole = leaves()
    together = losses(whole, slice(None))
    together.sum().backward()
    for i in range(5):
        one = leaves()
        alone = losses(one, slice(i, i + 1))
        alone.sum().backward()
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)
        for part, leaf in zip(one, whole, strict=True):
            assert part.grad is not None and leaf.grad is not None
            torch.testing.assert_close(leaf.grad[i], part.grad[i], rtol=1e-12, atol=1e-12)
