"""Rules that read the pair, against plain loops in float64 written from their formulas."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.madpo import RewardMarginWeight
from betahead.beta.mallows import DispersionBeta
from betahead.beta.odpo import OffsetTarget
from betahead.beta.rule import BetaRule
from betahead.beta.wpo import OnPolicyWeight
from betahead.losses.preference import preference_loss
from betahead.types import AnswerSums, PairLogps, PairReading, PromptFeatures, ReferenceScores

MARGINS = st.lists(st.floats(-60, 60), min_size=1, max_size=6)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def dpo(z: float) -> float:
    return math.log1p(math.exp(-abs(z))) + max(-z, 0.0)


def numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def losses(rule: BetaRule, margin: Tensor, **given_features: Any) -> list[float]:
    features = PromptFeatures(pairs=len(margin), **given_features)
    return preference_loss(margin, rule(features, margin)).tolist()


def reading(pairs: int, **fields: Any) -> PairReading:
    zeros, ones = torch.zeros(pairs, dtype=torch.float64), torch.ones(pairs, dtype=torch.long)
    scores = dict.fromkeys(
        ("chosen_logps", "rejected_logps", "reference_chosen_logps", "reference_rejected_logps"), zeros
    )
    return PairReading(**scores, chosen_tokens=ones, rejected_tokens=ones, **fields)


# OffsetTarget


@given(MARGINS, st.integers(0, 10**6), st.floats(0.01, 2), st.floats(0, 3))
def test_odpo_shifts_the_scaled_margin_by_its_offset(h: list[float], seed: int, beta: float, alpha: float) -> None:
    strength = (0.01 + 3 * torch.rand(len(h), generator=torch.Generator().manual_seed(seed))).tolist()
    for scale, offset in (("log", math.log), ("linear", float)):
        found = losses(OffsetTarget(beta, alpha, scale), numbers(h), columns={"strength": numbers(strength)})  # pyright: ignore
        wanted = [dpo(beta * one - alpha * offset(s)) for one, s in zip(h, strength, strict=True)]
        assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_odpo_without_an_offset_is_dpo_even_for_a_strength_of_nothing() -> None:
    found = losses(OffsetTarget(0.3, 0.0), numbers([2.0, -1.0]), columns={"strength": numbers([0.0, 1.0])})
    assert found == pytest.approx([dpo(0.6), dpo(-0.3)], rel=1e-12)


# RewardMarginWeight


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=6), st.floats(1.01, 5), st.floats(0.05, 0.95))
def test_madpo_weighs_by_the_ratio_of_the_reward_models_likelihoods(r: list[float], c_max: float, c_min: float) -> None:
    tau, lam, h = 2.0, 1.5, [0.4 * one for one in range(len(r))]
    weights: list[float] = []
    for margin in r:
        c = c_min + (c_max - c_min) / (1 + (c_max - 1) / (1 - c_min) * math.exp(lam * (abs(margin) - tau)))
        weights.append(sigmoid(c * margin) / sigmoid(margin) if margin > -tau else 1.0)
    rule = RewardMarginWeight(0.1, c_max, c_min, steepness=lam, threshold=tau)
    found = losses(rule, numbers(h), columns={"reward_margin": numbers(r)})
    wanted = [w * dpo(0.1 * one) for w, one in zip(weights, h, strict=True)]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_madpo_leaves_margins_of_its_threshold_and_of_nothing_alone() -> None:
    rule = RewardMarginWeight(0.1)
    assert rule.c_min == 0.5 and rule.threshold == pytest.approx(6.9068, abs=1e-4)
    margins = numbers([rule.threshold, 0.0, -1e4, 1e4])
    weights = rule(PromptFeatures(pairs=4, columns={"reward_margin": margins}), margins).weight.tolist()
    assert weights == pytest.approx([1.0, 1.0, 1.0, 1.0], abs=1e-12)


# OnPolicyWeight


def test_wpo_weighs_by_the_confidence_in_both_answers_without_gradient() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = [[torch.randn(tokens, 5, generator=rng, dtype=torch.float64) for tokens in (3, 1)] for _ in range(6)]
    labels = [[torch.randint(5, (len(one),), generator=rng) for one in pair] for pair in logits]
    labels[5] = [one.argmax(-1) for one in logits[5]]  # greedy answers weigh more than 1
    confidence: list[float] = []
    for pair, wanted in zip(logits, labels, strict=True):
        total = 0.0
        for answer, ids in zip(pair, wanted, strict=True):
            for scores, label in zip(answer.tolist(), ids.tolist(), strict=True):
                weights = [math.exp(one) for one in scores]
                p = [one / math.fsum(weights) for one in weights]
                total += (math.log(p[label]) - math.log(math.fsum(one * one for one in p))) / len(ids)
        confidence.append(total)

    logps = [
        [one.log_softmax(-1).gather(-1, ids[:, None]).sum() for one, ids in zip(a, b, strict=True)]
        for a, b in zip(logits, labels, strict=True)
    ]
    squares = [[(2 * one.log_softmax(-1)).logsumexp(-1).sum() for one in pair] for pair in logits]
    policy = PairLogps(
        chosen=torch.stack([pair[0] for pair in logps]).requires_grad_(),
        rejected=torch.stack([pair[1] for pair in logps]),
        chosen_tokens=torch.full((6,), 3),
        rejected_tokens=torch.full((6,), 1),
        sums=AnswerSums(collision=torch.stack([pair[side] for side in (0, 1) for pair in squares])),
    )
    zeros = torch.zeros(6, dtype=torch.float64)
    seen = PairReading.of(policy, ReferenceScores(chosen_logps=zeros, rejected_logps=zeros))
    assert seen.confidence is not None and not seen.confidence.requires_grad
    h = numbers([-3.0, -1.0, 0.0, 1.0, 2.0, 5.0])
    for cap in (1.0, None, 0.5):
        weights = [min(math.exp(one), math.inf if cap is None else cap) for one in confidence]
        wanted = [w * dpo(0.2 * one) for w, one in zip(weights, h.tolist(), strict=True)]
        assert losses(OnPolicyWeight(0.2, cap), h, pair=seen) == pytest.approx(wanted, rel=1e-9)
    assert confidence[5] > 0.0 > min(confidence)


# DispersionBeta


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6), st.floats(0.01, 2))
def test_mallows_scales_beta_by_the_dispersion_over_its_mean(entropy: list[float], beta: float) -> None:
    training = [0.1, 0.5, 0.3]
    rule = DispersionBeta(beta)
    rule.double()
    rule.calibrate_entropy(numbers(training))
    mean = math.fsum(-math.log(one) for one in training) / 3
    features = PromptFeatures(pairs=len(entropy), pair=reading(len(entropy), reference_entropy=numbers(entropy)))
    margin = torch.ones(len(entropy), dtype=torch.float64)
    assert rule(features, margin).beta.tolist() == pytest.approx(
        [beta * -math.log(one) / mean for one in entropy], rel=1e-12
    )
    given_scale = DispersionBeta(beta, scale=0.29)
    given_scale.calibrate_entropy(numbers(training))
    assert given_scale(features, margin).beta.tolist() == pytest.approx(
        [0.29 * beta * -math.log(one) for one in entropy], rel=1e-12
    )


def test_mallows_with_the_same_entropy_everywhere_is_dpo() -> None:
    rule = DispersionBeta(0.2)
    rule.calibrate_entropy(torch.full((5,), 0.37))
    found = losses(rule, torch.tensor([1.0, -2.0]), pair=reading(2, reference_entropy=torch.full((2,), 0.37)))
    assert found == pytest.approx([dpo(0.2), dpo(-0.4)], rel=1e-6)


def test_mallows_gives_a_positive_finite_beta_to_an_even_and_to_a_deterministic_reference() -> None:
    rule = DispersionBeta(0.1, scale=1.0)
    beta = rule(
        PromptFeatures(pairs=2, pair=reading(2, reference_entropy=numbers([0.0, 1.0]))), numbers([0.0, 0.0])
    ).beta
    assert beta.isfinite().all() and (beta > 0).all()


# ε-DPO


class LoopEpsilonDPO:
    """The method as a loop over pairs and steps."""

    def __init__(self, beta: float, epsilon: float) -> None:
        self.beta, self.epsilon = beta, epsilon

    def k(self, z: float, looser: float, tighter: float) -> int:
        if looser > z > tighter:
            return 1
        return -1 if tighter > z > looser else 0

    def loss(self, h: float, k: int) -> float:
        return dpo(self.beta / (1 + self.epsilon * k) * h)

    def step(self, ks: list[int]) -> None:
        self.beta /= 1 + self.epsilon * sum(ks) / len(ks)


@given(st.integers(0, 10**6), st.floats(0.005, 0.3))
def test_epsilon_dpo_follows_a_loop_over_pairs_passes_and_steps(seed: int, epsilon: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    rule, naive = PerturbedBeta(1 / 16, epsilon).double(), LoopEpsilonDPO(1 / 16, epsilon)
    for _ in range(4):
        ks: list[int] = []
        for size in (3, 2):  # two passes of an accumulation window, of which every pair weighs the same
            z, up, down = (torch.randint(-2, 3, (3, size), generator=rng).double() * 0.5).unbind()
            h = 5 * torch.randn(size, generator=rng, dtype=torch.float64)
            found = losses(rule, h, pair=reading(size, looser=up - z, tighter=down - z))
            of_pass = [naive.k(*one) for one in zip(z.tolist(), up.tolist(), down.tolist(), strict=True)]
            wanted = [naive.loss(*one) for one in zip(h.tolist(), of_pass, strict=True)]
            assert found == pytest.approx(wanted, rel=1e-9)
            ks += of_pass
        rule.step_taken(lambda t: t)
        naive.step(ks)
        assert rule.base.item() == pytest.approx(naive.beta, rel=1e-12)


def test_epsilon_dpo_goes_to_dpo_as_epsilon_goes_to_nothing() -> None:
    h = numbers([3.0, -2.0, 1.0])
    seen = reading(3, looser=numbers([1.0, -1.0, 1.0]), tighter=numbers([-1.0, 1.0, 1.0]))
    exact = [dpo(0.1 * one) for one in h.tolist()]
    off = [
        max(abs(a - b) for a, b in zip(losses(PerturbedBeta(0.1, e), h, pair=seen), exact, strict=True))
        for e in (1e-1, 1e-2, 1e-3)
    ]
    assert off[1] == pytest.approx(off[0] / 10, rel=0.2) and off[2] == pytest.approx(off[1] / 10, rel=0.2)


def test_swapping_the_answers_of_a_pair_swaps_the_step_of_epsilon_dpo() -> None:
    seen = reading(3, looser=torch.tensor([1.0, -1.0, 1.0]), tighter=torch.tensor([-1.0, 1.0, 2.0]))
    assert seen.looser is not None and seen.tighter is not None
    swapped = replace(seen, looser=-seen.looser, tighter=-seen.tighter)
    rule, h = PerturbedBeta(0.1, 0.5), torch.zeros(3)
    assert rule(PromptFeatures(pairs=3, pair=seen), h).beta.tolist() == pytest.approx([0.1 / 1.5, 0.2, 0.1])
    assert rule(PromptFeatures(pairs=3, pair=swapped), h).beta.tolist() == pytest.approx([0.2, 0.1 / 1.5, 0.1])
