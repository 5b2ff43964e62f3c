"""A KL budget in tabular worlds: it is reached from wherever β starts, and what it moves is the level alone."""

import pytest
import torch

from betahead.errors import ConfigError
from betahead.worlds.named import named_world
from betahead.worlds.tabular import tabular_world
from betahead.worlds.tabular_budget import BudgetBeta
from betahead.worlds.tabular_controls import ControlledBeta
from betahead.worlds.tabular_heldout import HeldoutBeta
from betahead.worlds.tabular_learning import HeldBeta, PerspectiveBeta
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import COMPARED, Runs
from betahead.worlds.tabular_training import train

STARTS = (0.03, 0.1, 0.3, 1.0, 3.0)
PERSPECTIVE = PerspectiveBeta(per="topic")


def trained(name, learning, betas=STARTS, rates=(0.1,), seeds=(0, 1)):
    world = tabular_world(named_world(name), seeds)
    grid = [(beta, rate) for beta in betas for rate in rates]
    runs = Runs.with_beta(*zip(*grid, strict=True))
    return train(world, sampled_pairs(world), runs, COMPARED, learning, splits=["train"])


@pytest.mark.parametrize(
    "name", ["uniform", "half_noise", "reward_scales", "few_pairs", "many_pairs", "frequent_noise"]
)
def test_the_budget_is_reached_from_every_initial_beta(name):
    # In a hundred steps a learning rate of 0.03 goes as far as 0.3 nats in every world, one of 0.1 as far as 1.
    for target, rates in ((0.3, (0.03,)), (1.0, (0.1,))):
        kl = trained(name, BudgetBeta(target_kl=target, allocation=PERSPECTIVE), rates=rates).on("train").kl[..., -1]
        assert ((kl / target - 1).abs() < 0.1).all(), kl / target


def test_one_beta_of_each_start_goes_as_far_as_it_likes():
    kl = trained("uniform", HeldBeta(), rates=(0.1,)).on("train").kl[..., -1]
    assert (kl[:, 0] > 5 * kl[:, -1]).all()


@pytest.mark.parametrize(
    "learning",
    [
        BudgetBeta(target_kl=1.0, allocation=HeldBeta()),
        BudgetBeta(target_kl=1.0, allocation=HeldoutBeta()),
        ControlledBeta(of=BudgetBeta(target_kl=1.0, allocation=PERSPECTIVE), kind="permuted"),
    ],
    ids=["one_beta", "heldout", "permuted"],
)
def test_whatever_allocates_beta_the_budget_is_the_same(learning):
    kl = trained("half_noise", learning).on("train").kl[..., -1]
    assert ((kl - 1).abs() < 0.1).all(), kl


def test_every_configuration_has_a_budget_of_its_own():
    targets = torch.tensor([0.2, 0.4, 0.8], dtype=torch.float64)
    together = trained("uniform", BudgetBeta(target_kl=targets, allocation=HeldBeta()), betas=[0.3], rates=[0.1] * 3)
    for at in range(3):
        rule = BudgetBeta(target_kl=float(targets[at]), allocation=HeldBeta())
        alone = trained("uniform", rule, betas=[0.3], rates=[0.1])
        torch.testing.assert_close(alone.on("train").kl[:, 0], together.on("train").kl[:, at], rtol=0, atol=1e-11)


def test_the_level_moves_and_the_allocation_is_left_to_its_own_way():
    done = trained("half_noise", BudgetBeta(target_kl=0.3, allocation=HeldBeta()), betas=[1.0], rates=[0.1])
    assert (done.log_beta == done.log_beta[..., :1]).all() and (done.log_beta != 0).all()


def test_a_budget_that_cannot_be_spent_leaves_the_level_at_its_bound():
    rule = BudgetBeta(target_kl=50.0, allocation=HeldBeta(), bounds=(0.02, 30.0))
    beta = trained("uniform", rule, rates=[0.01]).log_beta.exp()
    torch.testing.assert_close(beta, torch.full_like(beta, 0.02))


def test_a_level_that_was_held_at_its_bound_leaves_it_at_the_first_reading_beyond_the_budget():
    rule = BudgetBeta(target_kl=0.5, allocation=HeldBeta(), rate=0.3, horizon=10.0, bounds=(0.02, 30.0))
    course = rule.begin(tabular_world(named_world("uniform"), [0]), 1)
    level, unspent = torch.zeros(1, 1, 200, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for _ in range(1000):
        level = course.next_level(level, unspent)
    torch.testing.assert_close(level.exp(), torch.full_like(level, 0.02))
    # From a relative excess of −1 to one of 1: the rate once, and twice as often as there are steps to the horizon.
    after = course.next_level(level, unspent + 1.0)
    torch.testing.assert_close(after - level, torch.full_like(level, 0.3 * (1 + 2 * 10)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_kl": 0.0}, "`target_kl` must be above 0, but is 0.0 instead."),
        ({"target_kl": 1.0, "rate": 0.0}, "`rate` must be above 0, but is 0.0 instead."),
        ({"target_kl": 1.0, "horizon": -1.0}, "`horizon` must be at least 0, but is -1.0 instead."),
        (
            {"target_kl": 1.0, "bounds": (0.0, 1.0)},
            "`bounds` must be two rising numbers above 0, but are (0.0, 1.0) instead.",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError) as caught:
        BudgetBeta(allocation=HeldBeta(), **settings)
    assert str(caught.value) == message
