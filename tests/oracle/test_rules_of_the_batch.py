"""Rules that set β from the batch, against plain loops in float64 written from the formulas."""

import math

import pytest
import readings
import torch

from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.dama import BoundedRatioBeta
from betahead.beta.draws import gumbel
from betahead.beta.quantile_controller import QuantileController
from betahead.beta.rule import BetaRule
from betahead.losses.preference import preference_loss
from betahead.types import PromptFeatures

STEPS, PAIRS = 6, 10


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def course(rule: BetaRule) -> list[tuple[list[float], list[float], list[float], list[float], float]]:
    """Per step: margins, reward margins, β and weight of every pair, and the mean loss."""
    rule.double()
    seen = []
    for step in range(STEPS):
        features, margin = readings.given(readings.reading(PAIRS, seed=step, moved=0.3 + 0.5 * step), rule)
        shaping = rule(features, margin)
        loss = float(preference_loss(margin, shaping).mean())
        rewards = features.columns["reward_margin"].tolist()
        seen.append((margin.tolist(), rewards, shaping.beta.tolist(), shaping.weight.tolist(), loss))
    return seen


def drawn(log_weights: list[float], count: int, seed: int, draw: int) -> list[int]:
    """One after the other without replacement: the largest noisy log weight among those left."""
    noise = gumbel(len(log_weights), seed=seed, counter=torch.tensor(draw)).tolist()
    left, kept = list(range(len(log_weights))), []
    for _ in range(count):
        kept.append(max(left, key=lambda i: noise[i] + log_weights[i]))
        left.remove(kept[-1])
    return kept


@pytest.mark.parametrize("start", ["zero", "corrected"])
@pytest.mark.parametrize("gap_scale", ["raw", "beta"])
@pytest.mark.parametrize("drop", [0.0, 0.25])
def test_beta_dpo_is_its_formula(gap_scale: str, drop: float, start: str) -> None:
    level, response, seed, floor = 0.2, 2.0, 5, 0.19
    rule = BatchAdaptiveBeta(level, response, gap_scale, drop, 0.9, floor, start, seed)
    mean = spread = 0.0
    floored = 0
    for step, (margins, _, betas, weights, loss) in enumerate(course(rule)):
        gaps = [h if gap_scale == "raw" else level * h for h in margins]
        around = sum(gaps) / PAIRS
        mean = 0.9 * mean + 0.1 * around
        spread = 0.9 * spread + 0.1 * math.sqrt(sum((g - around) ** 2 for g in gaps) / (PAIRS - 1))
        scale = 1.0 if start == "zero" else 1 - 0.9 ** (step + 1)
        m, s = mean / scale, max(spread / scale, 1e-3)
        kept = drawn([-0.5 * ((g - m) / s) ** 2 for g in gaps], math.floor(PAIRS * (1 - drop)), seed, step)
        beta = level * (1 + response * (sum(gaps[i] for i in kept) / len(kept) - m))
        floored += beta < floor
        beta = max(beta, floor)
        assert betas == pytest.approx([beta] * PAIRS, rel=1e-12)
        assert weights == pytest.approx([PAIRS / len(kept) * (i in kept) for i in range(PAIRS)], rel=1e-12)
        assert loss == pytest.approx(sum(-math.log(sigma(beta * margins[i])) for i in kept) / len(kept), rel=1e-12)
    assert floored > 0 or gap_scale == "beta"


def test_the_same_response_acts_one_over_beta_times_as_strongly_on_raw_gaps() -> None:
    # A factor of 10 at the default β₀ = 0.1: what the paper calls a = 6 is a = 0.6 of the code.
    code = BatchAdaptiveBeta(0.1, 0.6, "raw", drop=0.0, floor=1e-9)
    paper = BatchAdaptiveBeta(0.1, 6.0, "beta", drop=0.0, floor=1e-9)
    for (_, _, one, _, _), (_, _, other, _, _) in zip(course(code), course(paper), strict=True):
        assert one == pytest.approx(other, rel=1e-12)
        assert one[0] != pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("data", ["none", "reward_margin"])
@pytest.mark.parametrize("drop", [0.0, 0.25])
def test_dama_is_its_formula(drop: float, data: str) -> None:
    level, data_level, seed, floor = 0.2, 0.5 if data != "none" else 0.0, 3, 0.13
    rule = BoundedRatioBeta(level, data, data_level, drop, 0.9, floor, "zero", seed)
    mean, floored = 0.0, 0
    for step, (margins, rewards, betas, weights, loss) in enumerate(course(rule)):
        mean = 0.9 * mean + 0.1 * sum(margins) / PAIRS
        kept = drawn([-0.5 * (h - mean) ** 2 for h in margins], math.floor(PAIRS * (1 - drop)), seed, step)
        ratio = sum(sigma(margins[i]) for i in kept) / len(kept) / sigma(mean)
        factor = [1.0 if data == "none" else sigma(r) / sigma(data_level) for r in rewards]
        wanted = [max(level * ratio * f, floor) for f in factor]
        floored += sum(beta == floor for beta in wanted)
        assert betas == pytest.approx(wanted, rel=1e-6)  # the column is float32
        assert weights == pytest.approx([PAIRS / len(kept) * (i in kept) for i in range(PAIRS)], rel=1e-12)
        losses = [-math.log(sigma(wanted[i] * margins[i])) for i in kept]
        assert loss == pytest.approx(sum(losses) / len(kept), rel=1e-6)
    assert (floored > 0) == (data != "none")


@pytest.mark.parametrize("warmup", [1, 3])
def test_the_quantile_controller_is_its_formula(warmup: int) -> None:
    level, share, rate, gain, momentum = 0.2, 0.3, 0.1, 2.0, 0.25
    rule = QuantileController(level, share, rate, gain, momentum, warmup, 0.17, 0.21)
    beta, threshold, at_bound = level, 0.0, 0
    for step, (margins, _, betas, weights, _) in enumerate(course(rule)):
        assert betas == pytest.approx([beta] * PAIRS, rel=1e-12)
        assert weights == [1.0] * PAIRS
        ordered = sorted(margins)
        place = (1 - share) * (PAIRS - 1)
        below = math.floor(place)
        quantile = ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
        if step < warmup:
            threshold = (threshold * step + quantile) / (step + 1)
            continue
        threshold = (1 - momentum) * threshold + momentum * quantile
        reached = sum(h >= threshold for h in margins) / PAIRS
        error = (reached - share) / math.sqrt(share * (1 - share) / PAIRS)
        beta = min(max(beta * math.exp(rate * math.tanh(gain * error)), 0.17), 0.21)
        at_bound += beta in (0.17, 0.21)
    assert at_bound > 0
    assert float(rule.log_metrics()["beta/threshold"]) == pytest.approx(threshold, rel=1e-12)


def test_a_margin_on_the_quantile_itself_has_reached_it() -> None:
    # The threshold is the median, which is one of the margins: 2 of 3 are at or above it, 1 of 3 above.
    rule = QuantileController(0.2, share=0.5, rate=0.1, gain=2.0, momentum=1.0, warmup=1).double()
    margin = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    for _ in range(2):
        rule(PromptFeatures(pairs=3), margin)
    error = (2 / 3 - 0.5) / math.sqrt(0.5 * 0.5 / 3)
    (beta, *_) = rule(PromptFeatures(pairs=3), margin).beta.tolist()
    assert beta == pytest.approx(0.2 * math.exp(0.1 * math.tanh(2.0 * error)), rel=1e-12)
