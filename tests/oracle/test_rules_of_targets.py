"""Rules that set the target margin, against plain loops in float64 written from the formulas."""

import math
import random

import pytest
import readings
import torch

from betahead.beta.allocation import allocation
from betahead.beta.alpha_dpo import AlphaTarget
from betahead.beta.amapo import BelowMeanTarget
from betahead.beta.gamma_po import AllocatedTarget
from betahead.beta.rule import BetaRule
from betahead.forward.agreed import agreed
from betahead.losses.objective import objective_of
from betahead.losses.preference import preference_loss
from betahead.types import PairLogps, PairReading, PromptFeatures, ReferenceScores

STEPS, PAIRS = 5, 7


def nll(z: float) -> float:
    return math.log1p(math.exp(-z))


def course(rule: BetaRule) -> list[tuple[PairReading, list[float], float]]:
    """Per step: the pairs, their targets and the mean loss."""
    rule.double()
    seen = []
    for step in range(STEPS):
        pair = readings.reading(PAIRS, seed=step, moved=0.3 + 0.5 * step)
        features, margin = readings.given(pair, rule)
        shaping = rule(features, margin)
        seen.append((pair, shaping.target.tolist(), float(preference_loss(margin, shaping).mean())))
    return seen


def means(pair: PairReading) -> tuple[list[float], list[float]]:
    """Mean log-probability of the chosen answer less the rejected one's, of the policy, and less the reference's."""
    policy, apart = [], []
    for i in range(PAIRS):
        chosen, rejected = int(pair.chosen_tokens[i]), int(pair.rejected_tokens[i])
        of_policy = float(pair.chosen_logps[i]) / chosen - float(pair.rejected_logps[i]) / rejected
        of_reference = (
            float(pair.reference_chosen_logps[i]) / chosen - float(pair.reference_rejected_logps[i]) / rejected
        )
        policy.append(of_policy)
        apart.append(of_policy - of_reference)
    return policy, apart


@pytest.mark.parametrize("start", ["zero", "corrected"])
def test_alpha_dpo_is_the_formula_of_its_code(start: str) -> None:
    beta, ratio, alpha = 2.5, 0.4, 0.3
    mean = spread = 0.0
    for step, (pair, targets, loss) in enumerate(course(AlphaTarget(beta, ratio, alpha, start=start))):
        policy, apart = means(pair)
        around = sum(apart) / PAIRS
        mean = 0.9 * mean + 0.1 * around
        spread = 0.9 * spread + 0.1 * math.sqrt(sum((d - around) ** 2 for d in apart) / (PAIRS - 1))
        scale = 1.0 if start == "zero" else 1 - 0.9 ** (step + 1)
        wanted = [ratio + alpha * (d - mean / scale) / max(spread / scale, 1e-3) for d in apart]
        assert targets == pytest.approx(wanted, rel=1e-10)
        terms = [nll(beta * (h - c)) for h, c in zip(policy, wanted, strict=True)]
        assert loss == pytest.approx(sum(terms) / PAIRS, rel=1e-10)


def test_alpha_dpo_of_the_paper_has_its_margin_outside_of_beta() -> None:
    beta, gamma, alpha = 2.5, 1.0, 0.75
    mean = spread = 0.0
    for pair, _, loss in course(AlphaTarget(beta, gamma, alpha, units="paper")):
        policy, apart = means(pair)
        around = sum(apart) / PAIRS
        mean = 0.9 * mean + 0.1 * around
        spread = 0.9 * spread + 0.1 * math.sqrt(sum((d - around) ** 2 for d in apart) / (PAIRS - 1))
        terms = [
            nll(beta * h - (gamma + alpha * (d - mean) / max(spread, 1e-3))) for h, d in zip(policy, apart, strict=True)
        ]
        assert loss == pytest.approx(sum(terms) / PAIRS, rel=1e-10)


def test_the_two_units_of_alpha_dpo_differ_by_a_factor_beta() -> None:
    code = course(AlphaTarget(10.0, 0.4, 0.2))
    paper = course(AlphaTarget(10.0, 4.0, 2.0, units="paper"))
    defaults = course(AlphaTarget(10.0, units="paper")), course(AlphaTarget(10.0))
    for one, other in ((code, paper), defaults):
        for (_, first, _), (_, second, _) in zip(one, other, strict=True):
            assert first == pytest.approx(second, rel=1e-12)


def test_amapo_is_its_formula() -> None:
    beta = 2.0
    for pair, targets, loss in course(BelowMeanTarget(beta)):
        policy, _ = means(pair)
        mean = sum(policy) / PAIRS
        spread = math.sqrt(sum((h - mean) ** 2 for h in policy) / (PAIRS - 1))
        margins = [beta * math.exp((mean - h) / spread * mean) if h < mean else 0.0 for h in policy]
        assert [beta * c for c in targets] == pytest.approx(margins, rel=1e-10)
        terms = [nll(beta * h - m) for h, m in zip(policy, margins, strict=True)]
        assert loss == pytest.approx(sum(terms) / PAIRS, rel=1e-10)


def slopes_of(gaps: list[float], shares: list[float], gamma: float, temperature: float) -> list[float]:
    """The derivative of mean(−log σ(g − γ₀np)) + τ·KL(p ‖ uniform) by every share, less τ."""
    n = len(gaps)
    return [
        gamma / (1 + math.exp(g - gamma * n * p)) + temperature * math.log(n * p)
        for g, p in zip(gaps, shares, strict=True)
    ]


def stepped(gaps: list[float], gamma: float, temperature: float, *, rate: float, steps: int) -> list[float]:
    """Shares by exponentiated gradient from equal ones; until all slopes are the same, or for as many steps."""
    shares = [1 / len(gaps)] * len(gaps)
    for _ in range(steps):
        slopes = slopes_of(gaps, shares, gamma, temperature)
        if max(slopes) - min(slopes) < 1e-13:
            break
        raised = [p * math.exp(-rate * slope) for p, slope in zip(shares, slopes, strict=True)]
        shares = [p / sum(raised) for p in raised]
    return shares


def allocated(gaps: list[float], gamma: float, temperature: float) -> list[float]:
    """The optimum, by steps short enough for the steepest place that they can come to."""
    n = len(gaps)
    steepest = temperature + gamma**2 * n / 4
    shares = stepped(gaps, gamma, temperature, rate=1 / min(steepest, temperature + 2 * gamma**2), steps=20_000)
    slopes = slopes_of(gaps, shares, gamma, temperature)
    assert max(slopes) - min(slopes) < 1e-12, "the oracle has not arrived"
    return [gamma * n * p for p in shares]


@pytest.mark.parametrize(("gamma", "temperature"), [(4.0, 10.0), (1.5, 0.4), (4.0, 1.0), (2.0, 0.1), (0.0, 10.0)])
def test_the_allocation_is_the_optimum_that_short_steps_on_the_shares_come_to(gamma: float, temperature: float) -> None:
    rng = random.Random(0)
    gaps = [rng.gauss(0, 3) for _ in range(20)]
    filler = torch.tensor([50.0, -50.0], dtype=torch.float64)
    pool = torch.cat([torch.tensor(gaps, dtype=torch.float64), filler])
    counted = torch.arange(22) < 20
    found = allocation(pool, counted, gamma=gamma, temperature=temperature)[:20]
    assert found.tolist() == pytest.approx(allocated(gaps, gamma, temperature), rel=1e-10)


@pytest.mark.parametrize(
    ("gamma", "spread"),
    [
        (4.0, 2.0),
        *(
            pytest.param(gamma, spread, marks=pytest.mark.slow)
            for gamma in (0.1, 4.0, 40.0)
            for spread in (0.0, 2.0, 50.0)
            if (gamma, spread) != (4.0, 2.0)
        ),
    ],
)
@pytest.mark.parametrize("temperature", [100.0, 10.0, 2.0, 1.0, 0.1, 0.01])
def test_the_allocation_is_where_its_objective_is_smallest_at_any_temperature(
    temperature: float, gamma: float, spread: float
) -> None:
    gaps = spread * torch.randn(256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = allocation(gaps, torch.ones(256, dtype=torch.bool), gamma=gamma, temperature=temperature)
    torch.testing.assert_close(found.mean(), torch.tensor(gamma, dtype=torch.float64))
    # Σp = 1 with a multiplier: the derivative is the same for every pair that has a share to speak of.
    log_ratio = (found / gamma).log()
    slope = (gamma * torch.sigmoid(found - gaps) + temperature * log_ratio)[log_ratio > -500]
    assert float(slope.max() - slope.min()) < 1e-7 * (1 + gamma)
    order = gaps.argsort()
    assert bool((found[order].diff() >= 0).all())
    single = allocation(gaps.float(), torch.ones(256, dtype=torch.bool), gamma=gamma, temperature=temperature)
    assert single.isfinite().all()


@pytest.mark.parametrize(("gamma", "temperature"), [(4.0, 10.0), (1.5, 10.0), (5.0, 20.0), (3.0, 3.0)])
def test_the_twenty_steps_of_the_released_code_come_to_the_same_at_its_own_settings(
    gamma: float, temperature: float
) -> None:
    rng = random.Random(1)
    gaps = [rng.gauss(0, 2) for _ in range(64)]
    shares = stepped(gaps, gamma, temperature, rate=min(0.5 / temperature, 1.0), steps=20)
    found = allocation(
        torch.tensor(gaps, dtype=torch.float64), torch.ones(64, dtype=torch.bool), gamma=gamma, temperature=temperature
    )
    assert found.tolist() == pytest.approx([gamma * 64 * p for p in shares], rel=1e-4)


def test_at_a_low_temperature_they_go_to_and_fro_instead() -> None:
    rng = random.Random(1)
    gaps = [rng.gauss(0, 2) for _ in range(64)]
    twenty, more = (stepped(gaps, 4.0, 1.0, rate=0.5, steps=steps) for steps in (20, 21))
    assert max(abs(4.0 * 64 * (p - q)) for p, q in zip(twenty, more, strict=True)) > 0.5


@pytest.mark.parametrize("margin", ["policy", "reference", "reference_sums"])
def test_gamma_po_is_its_formula(margin: str) -> None:
    beta, ratio, temperature = 2.0, 0.3, 5.0
    rule = AllocatedTarget(beta, ratio, temperature, margin, seed=4)
    # The pool is smaller than 256, so that it is the whole queue whatever the draw.
    queue = rule.queue[:8].double().tolist()
    for step in range(STEPS):
        pair = readings.reading(PAIRS, seed=step)
        features, given = readings.given(pair, rule.double())
        shaping = rule(features, given)
        gaps = [beta * h for h in given.tolist()]
        gammas = allocated(queue + gaps, ratio * beta, temperature)[-PAIRS:]
        offset = 0.0 if margin == "policy" else ratio * beta
        targets = [(g - offset) / beta for g in gammas]
        assert shaping.target.tolist() == pytest.approx(targets, rel=1e-9, abs=1e-12)
        terms = [nll(g - (t - offset)) for g, t in zip(gaps, gammas, strict=True)]
        assert float(preference_loss(given, shaping).mean()) == pytest.approx(sum(terms) / PAIRS, rel=1e-9)
        queue += gaps
    assert rule.queue[: len(queue)].tolist() == pytest.approx(queue, rel=1e-12)


@pytest.mark.parametrize("loss", ["sigmoid", "sigmoid_norm"])
def test_gamma_po_beside_a_reference_is_that_of_means_per_token_as_its_authors_have_it(loss: str) -> None:
    rule = AllocatedTarget(margin="reference", seed=2).double()
    assert (rule.beta, rule.gamma) == (10.0, 0.4)
    queue = rule.queue[:8].double().tolist()
    pair = readings.reading(PAIRS, moved=0.2)
    policy = PairLogps(
        chosen=pair.chosen_logps,
        rejected=pair.rejected_logps,
        chosen_tokens=pair.chosen_tokens,
        rejected_tokens=pair.rejected_tokens,
    )
    reference = ReferenceScores(chosen_logps=pair.reference_chosen_logps, rejected_logps=pair.reference_rejected_logps)
    objective = agreed(objective_of(loss), rule)
    chosen, rejected = objective.sides(policy, reference)
    shaping = rule(PromptFeatures(pairs=PAIRS), chosen - rejected)
    gaps = [10.0 * h for h in means(pair)[1]]
    gammas = allocated(queue + gaps, 4.0, 10.0)[-PAIRS:]
    wanted = [nll(gap - (gamma - 4.0)) for gap, gamma in zip(gaps, gammas, strict=True)]
    assert objective.losses(policy, reference, shaping).tolist() == pytest.approx(wanted, rel=1e-9)
    assert objective.unit == "nats per token"
