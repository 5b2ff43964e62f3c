"""The order of a batch changes nothing, and where the formula has it, which answer won changes nothing but a sign."""

import pytest
import readings
import torch

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.alpha_dpo import AlphaTarget
from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.rule import BetaRule

PAIRS, STEPS = 11, 4


@pytest.mark.parametrize("kind", readings.RULES)
def test_the_order_of_a_batch_changes_nothing(kind: str) -> None:
    # A filter draws by place; without it the formula knows no order.
    undrawn = {"drop": 0.0} if kind in ("beta_dpo", "dama") else {}
    one, other = (readings.lively(kind, **undrawn).double() for _ in range(2))
    for step in range(STEPS):
        pair = readings.reading(PAIRS, seed=step)
        order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(step))
        features, margin = readings.given(pair, one)
        columns = {name: values[order] for name, values in features.columns.items()}
        shuffled, _ = readings.given(readings.some(pair, order), one)
        shuffled = type(features)(pairs=PAIRS, columns=columns, pair=shuffled.pair)
        wanted = readings.slots(one(features, margin))[:, order]
        torch.testing.assert_close(readings.slots(other(shuffled, margin[order])), wanted, rtol=1e-10, atol=1e-12)
    assert not readings.slots(one(features, margin))[:3].isnan().any()


@pytest.mark.parametrize("regulariser", ["linear", "quadratic"])
def test_a_wrong_pair_gets_the_temperature_of_the_right_pair_that_is_as_clear(regulariser: str) -> None:
    rule = AdaptiveScaling(0.2, 0.2, regulariser)
    pair = readings.reading(PAIRS)
    found, wanted = readings.shaped(rule, readings.swapped(pair)), readings.shaped(rule, pair)
    torch.testing.assert_close(readings.slots(found), readings.slots(wanted), rtol=1e-12, atol=0.0)
    assert wanted.beta.unique().numel() > PAIRS // 2


def mirrored(rule: BetaRule, other: BetaRule, slot: str) -> list[torch.Tensor]:
    """The slot of a rule that sees pairs, plus that of the other, which always sees them swapped."""
    sums = []
    for step in range(STEPS):
        pair = readings.reading(PAIRS, seed=step)
        first, second = readings.shaped(rule.double(), pair), readings.shaped(other.double(), readings.swapped(pair))
        torch.testing.assert_close(second.weight, first.weight)
        sums.append(getattr(first, slot) + getattr(second, slot))
    return sums


def test_beta_dpo_lowers_beta_for_swapped_answers_as_much_as_it_raised_it() -> None:
    one, other = (BatchAdaptiveBeta(0.2, 0.3, floor=1e-9, drop=0.3) for _ in range(2))
    for beta in mirrored(one, other, "beta"):
        torch.testing.assert_close(beta, torch.full_like(beta, 0.4), rtol=1e-12, atol=0.0)


def test_alpha_dpo_mirrors_its_target_at_the_fixed_one() -> None:
    for target in mirrored(AlphaTarget(2.0, 0.5, 0.3), AlphaTarget(2.0, 0.5, 0.3), "target"):
        torch.testing.assert_close(target, torch.ones_like(target), rtol=1e-12, atol=0.0)
