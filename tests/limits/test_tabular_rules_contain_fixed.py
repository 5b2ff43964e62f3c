"""In tabular worlds every rule contains fixed β: with what makes it a rule turned off, every number is the same."""

import math

import pytest
import torch

from betahead.worlds.tabular import tabular_world
from betahead.worlds.tabular_batch import BatchBeta
from betahead.worlds.tabular_budget import BudgetBeta
from betahead.worlds.tabular_controls import ControlledBeta
from betahead.worlds.tabular_heldout import HeldoutBeta
from betahead.worlds.tabular_learning import HeldBeta, JointBeta, PerspectiveBeta
from betahead.worlds.tabular_method_table import TABULAR_METHODS
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_settings import TabularSettings, TabularTopic
from betahead.worlds.tabular_training import train

WORLD = tabular_world(
    TabularSettings(
        topics=(TabularTopic(name="clean"), TabularTopic(name="noisy", label_noise=0.4)),
        train_prompts=20,
        eval_prompts=6,
        test_prompts=30,
        answers=4,
        features=3,
    ),
    [3, 4],
)
PAIRS = sampled_pairs(WORLD)
RUNS = Runs.with_beta([0.1, 0.7], [0.03, 0.1])
# Rates so small that a step of AdamW, which is as long as its rate, is lost in the sum with log β.
STILL = 1e-300


def trained(learning, runs=RUNS):
    return train(WORLD, PAIRS, runs, Training(steps=25, batch_pairs=16), learning)


FIXED = trained(HeldBeta())


@pytest.mark.parametrize(
    "learning",
    [
        HeldBeta(push="even"),
        BatchBeta(response=0.0, drop=0.0),
        JointBeta(learning_rate=STILL, per="topic"),
        PerspectiveBeta(learning_rate=STILL, per="topic"),
        PerspectiveBeta(learning_rate=STILL, regulariser="linear", per="prompt"),
        BudgetBeta(target_kl=0.5, allocation=HeldBeta(), rate=STILL),
        ControlledBeta(of=HeldBeta(), kind="permuted"),
        ControlledBeta(of=PerspectiveBeta(learning_rate=STILL), kind="permuted"),
        ControlledBeta(of=BatchBeta(response=0.0, drop=0.0), kind="permuted"),
    ],
    ids=lambda learning: type(getattr(learning, "of", learning)).__name__ + getattr(learning, "kind", ""),
)
def test_a_rule_without_what_makes_it_one_is_fixed_beta_to_the_last_bit(learning):
    found = trained(learning)
    assert torch.equal(found.shared, FIXED.shared) and torch.equal(found.table, FIXED.table)
    assert torch.equal(found.scores.reward, FIXED.scores.reward) and torch.equal(found.log_beta, FIXED.log_beta)


@pytest.mark.parametrize("allocation", [HeldBeta(push="even"), PerspectiveBeta(learning_rate=0.05, per="topic")])
def test_a_budget_whose_level_is_frozen_is_its_allocation_to_the_last_bit(allocation):
    found = trained(BudgetBeta(target_kl=0.5, allocation=allocation, rate=STILL))
    alone = trained(allocation)
    assert torch.equal(found.shared, alone.shared) and torch.equal(found.log_beta, alone.log_beta)


def test_heldout_without_a_step_of_its_own_is_an_even_push_on_the_pairs_that_it_keeps():
    learning = HeldoutBeta(learning_rate=0.0)
    found, (kept, _) = trained(learning), learning.divided(WORLD, PAIRS)
    alone = train(WORLD, kept, RUNS, Training(steps=25, batch_pairs=16), HeldBeta(push="even"))
    assert torch.equal(found.shared, alone.shared) and torch.equal(found.table, alone.table)
    assert torch.equal(found.log_beta, alone.log_beta)


@pytest.mark.parametrize("kind", ["noise", "flipped", "matched"])
def test_a_control_of_a_constant_is_that_constant(kind):
    found = trained(ControlledBeta(of=HeldBeta(), kind=kind))
    # A mean of equal numbers may round.
    torch.testing.assert_close(found.scores.reward, FIXED.scores.reward, rtol=0, atol=1e-10)


def test_the_more_slowly_a_rule_learns_the_closer_it_is_to_fixed_beta():
    for make in (
        lambda rate: JointBeta(learning_rate=rate, per="topic"),
        lambda rate: PerspectiveBeta(learning_rate=rate, per="topic"),
        lambda rate: BatchBeta(response=rate, drop=0.0),
    ):
        gaps = [(trained(make(rate)).scores.kl - FIXED.scores.kl).abs().max() for rate in (1e-2, 1e-4, 1e-6)]
        assert gaps[0] > 10 * gaps[1] > 100 * gaps[2] > 0


def test_a_rate_for_each_configuration_is_the_same_as_one_at_a_time():
    rates, rhos = torch.tensor([0.01, 0.1], dtype=torch.float64), torch.tensor([0.05, 0.2], dtype=torch.float64)
    together = trained(PerspectiveBeta(learning_rate=rates, rho=rhos, per="topic"))
    for at in range(2):
        one = PerspectiveBeta(learning_rate=float(rates[at]), rho=float(rhos[at]), per="topic")
        alone = trained(one, RUNS.configs(slice(at, at + 1)))
        torch.testing.assert_close(alone.log_beta[:, 0], together.log_beta[:, at], rtol=0, atol=1e-13)
        torch.testing.assert_close(alone.scores.kl[:, :, 0], together.scores.kl[:, :, at], rtol=0, atol=1e-13)


def test_early_stopping_alone_is_the_limit_of_a_small_beta():
    level = TABULAR_METHODS["fixed_early"].level
    assert level == 0.01
    runs = Runs.with_beta([level * 0.1, level * 0.01], [0.03, 0.03])
    found = trained(HeldBeta(), runs).on("test").kl[..., -1]
    # β falls by ten and AdamW takes the same steps.
    torch.testing.assert_close(found[:, 0], found[:, 1], rtol=0.01, atol=0)
    assert math.isfinite(float(found.sum()))
