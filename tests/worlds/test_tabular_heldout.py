"""β from held-out pairs in tabular worlds: the derivative against brute force, and what it finds."""

import copy
from dataclasses import replace

import pytest
import torch

from betahead.errors import ConfigError
from betahead.worlds.named import named_world
from betahead.worlds.tabular import tabular_world
from betahead.worlds.tabular_controls import ControlledBeta
from betahead.worlds.tabular_heldout import HeldoutBeta, one_step_ahead
from betahead.worlds.tabular_learning import HeldBeta
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_policies import Contrasts, Policies, Weighed
from betahead.worlds.tabular_runs import COMPARED, Runs, Training
from betahead.worlds.tabular_settings import TabularSettings, TabularTopic
from betahead.worlds.tabular_training import policy_logps, train

SETTINGS = TabularSettings(
    topics=(TabularTopic(name="clean"), TabularTopic(name="noisy", label_noise=0.4)),
    train_prompts=20,
    eval_prompts=4,
    test_prompts=10,
    answers=4,
    features=3,
)
WORLD = tabular_world(SETTINGS, [3, 4])
PAIRS = sampled_pairs(WORLD)
RATES = torch.tensor([0.3, 0.02], dtype=torch.float64)
LEVELS = torch.tensor([0.2, 1.0], dtype=torch.float64)


def held_out_loss(done, level):
    """−log σ(β₀·h) of the held-out pairs, from the policy's log-probabilities."""
    _, held = HeldoutBeta(share=0.3).divided(WORLD, PAIRS)
    logps = policy_logps(WORLD, done.shared, done.table, "train") - WORLD.ref_logps[:, None, :20]
    seed, config = torch.arange(2)[:, None, None], torch.arange(2)[None, :, None]
    prompt, chosen, rejected = (part[:, None] for part in (held.prompt, held.chosen, held.rejected))
    h = logps[seed, config, prompt, chosen] - logps[seed, config, prompt, rejected]
    return -torch.nn.functional.logsigmoid(level[None, :, None] * h).mean(-1)


@pytest.mark.parametrize("batch_pairs", [None, 16])
def test_the_first_move_of_beta_is_the_held_out_losss_derivative_by_brute_force(batch_pairs):
    # All margins are 0 at the first step, so β neither matters there nor moves; the second step is the one that counts.
    training = Training(steps=2, optimizer="gd", batch_pairs=batch_pairs, weight_decay=0.1)
    runs = Runs(LEVELS.log()[None, :, None], RATES)
    moved = train(WORLD, PAIRS, runs, training, HeldoutBeta(share=0.3, learning_rate=1.0)).log_beta
    still, delta = HeldoutBeta(share=0.3, learning_rate=0.0), 1e-3
    for topic in range(2):
        here = (WORLD.topic[:20] == topic).double()[None, None]
        up, down = (
            held_out_loss(train(WORLD, PAIRS, replace(runs, lean=sign * delta * here), training, still), LEVELS)
            for sign in (1.0, -1.0)
        )
        by_hand = (up - down) / (2 * delta)
        found = (LEVELS.log()[None, :, None] - moved)[..., WORLD.topic[:20] == topic]
        assert (by_hand.abs() > 1e-8).all()
        torch.testing.assert_close(found, by_hand[..., None].expand_as(found), rtol=1e-6, atol=0)


def a_step(optimizer, before):
    """Policies that took some steps, a batch, and the β and gradient of the next step."""
    training, learning = Training(optimizer=optimizer), HeldoutBeta(share=0.3)
    kept, held = (
        Weighed(
            Contrasts.of(WORLD, part.prompt, part.chosen, part.rejected), part.weight[:, None].expand(-1, 2, -1).clone()
        )
        for part in learning.divided(WORLD, PAIRS)
    )
    level = LEVELS.log()[None, :, None].expand(2, 2, 20)
    log_beta = level + 0.5 * torch.randn(2, 2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    policies = Policies(WORLD, RATES if optimizer == "gd" else 0.1 * RATES, training)

    def push(log_beta_of_pairs):
        margin = policies.margins(kept.pairs)
        beta0 = level.gather(2, kept.where).exp()
        return -kept.weight * beta0 * torch.sigmoid(-log_beta_of_pairs.exp() * margin)

    of_pairs = log_beta.gather(2, kept.where)
    for _ in range(before):
        policies.step(policies.gradient(push(of_pairs), kept.pairs), 0.7)
    return policies, kept, held, level, log_beta, push


def ahead_and_by_hand(optimizer, before):
    policies, kept, held, level, log_beta, push = a_step(optimizer, before)
    of_pairs, margin = log_beta.gather(2, kept.where), policies.margins(kept.pairs)

    def loss_after(log_beta_of_pairs):
        other = copy.deepcopy(policies)
        other.step(other.gradient(push(log_beta_of_pairs), kept.pairs), 0.7)
        z = level.gather(2, held.where).exp() * other.margins(held.pairs)
        return -(held.weight * torch.nn.functional.logsigmoid(z)).sum(-1)

    by_hand = torch.zeros_like(of_pairs)
    for pair in range(of_pairs.shape[-1]):
        bump = torch.zeros_like(of_pairs)
        bump[..., pair] = 1e-3
        by_hand[..., pair] = (loss_after(of_pairs + bump) - loss_after(of_pairs - bump)) / 2e-3
    stepped = copy.deepcopy(policies)
    stepped.step(stepped.gradient(push(of_pairs), kept.pairs), 0.7)
    found = one_step_ahead(stepped, kept, held, margin=margin, log_beta=log_beta, level=level, share=0.7)
    return found, by_hand


def test_each_pairs_derivative_is_that_of_really_stepping_with_another_beta():
    found, by_hand = ahead_and_by_hand("gd", before=50)
    assert (by_hand.abs().amax(-1) > 1e-8).all()
    torch.testing.assert_close(found, by_hand, rtol=1e-6, atol=1e-6 * float(by_hand.abs().max()))


def test_with_adamw_the_derivative_points_where_brute_force_points():
    found, by_hand = ahead_and_by_hand("adamw", before=200)
    assert (torch.cosine_similarity(found, by_hand, dim=-1) > 0.99).all()
    large = by_hand.abs() > 0.05 * by_hand.abs().amax(-1, keepdim=True)
    assert (found.sign() == by_hand.sign())[large].all()


def test_every_seed_holds_out_prompts_of_its_own_whatever_other_seeds_do():
    kept, held = HeldoutBeta(share=0.3).divided(WORLD, PAIRS)
    assert held.prompt.shape[1] == 6 * 4 and kept.prompt.shape[1] == 14 * 4
    for part in (kept, held):
        torch.testing.assert_close(part.weight.sum(1), torch.ones(2, dtype=torch.float64))
    sets = [[set(part.prompt[seed].tolist()) for seed in range(2)] for part in (kept, held)]
    assert all(not here & there for here, there in zip(*sets, strict=True)) and sets[1][0] != sets[1][1]
    alone = tabular_world(SETTINGS, [4])
    assert torch.equal(HeldoutBeta(share=0.3).divided(alone, sampled_pairs(alone))[1].prompt[0], held.prompt[1])


def test_held_out_labels_reach_beta_and_not_the_policy():
    runs, training = Runs.with_beta([0.3], [0.1]), Training(steps=10, batch_pairs=16)
    _, held = HeldoutBeta().divided(WORLD, PAIRS)
    turned = (PAIRS.prompt[:, :, None] == held.prompt[:, None]).any(-1)
    other = replace(
        PAIRS,
        chosen=torch.where(turned, PAIRS.rejected, PAIRS.chosen),
        rejected=torch.where(turned, PAIRS.chosen, PAIRS.rejected),
    )
    one, two = (train(WORLD, pairs, runs, training, HeldoutBeta(learning_rate=0.0)) for pairs in (PAIRS, other))
    assert torch.equal(one.shared, two.shared) and torch.equal(one.table, two.table)
    one, two = (train(WORLD, pairs, runs, training, HeldoutBeta(learning_rate=0.1)) for pairs in (PAIRS, other))
    assert (one.log_beta - two.log_beta).abs().min() > 1e-3


def test_where_prompts_share_nothing_held_out_ones_say_nothing():
    world = tabular_world(replace(SETTINGS, world_share=0.0, topic_share=0.0), [3])
    for per in ("prompt", "topic", "world"):
        learning = HeldoutBeta(learning_rate=0.1, per=per)
        done = train(world, sampled_pairs(world), Runs.with_beta([0.3], [0.1]), Training(steps=10), learning)
        torch.testing.assert_close(done.log_beta.exp(), torch.full((1, 1, 20), 0.3, dtype=torch.float64))


@pytest.mark.parametrize(("name", "differ"), [("half_noise", True), ("uniform", False)])
def test_beta_rises_where_labels_are_coin_flips_and_nowhere_else(name, differ):
    world = tabular_world(named_world(name), range(32))
    runs = Runs.with_beta([0.1, 0.3], [0.1, 0.1])
    learning = HeldoutBeta(learning_rate=0.03)
    done = train(world, sampled_pairs(world), runs, COMPARED, learning, splits=["test"])
    noisy = world.topic[:200] >= 2
    gap = done.log_beta[..., noisy].mean(-1) - done.log_beta[..., ~noisy].mean(-1)
    error = gap.std(0) / 32**0.5
    assert (gap.mean(0) > 4 * error).all() if differ else (gap.mean(0).abs() < 3 * error).all()


def test_a_permuted_control_of_it_learns_from_held_out_pairs_too():
    learning = HeldoutBeta(learning_rate=0.1, per="topic")
    runs, training = Runs.with_beta([0.3], [0.1]), Training(steps=10)
    done = train(WORLD, PAIRS, runs, training, ControlledBeta(of=learning, kind="permuted"))
    values = done.log_beta[0, 0].unique()
    assert len(values) == 2 and (values.exp() != 0.3).all()
    matched = train(WORLD, PAIRS, runs, training, ControlledBeta(of=HeldBeta(), kind="matched"))
    assert not torch.equal(matched.shared, done.shared)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeldoutBeta(learning_rate=-0.1), "`learning_rate` must be at least 0, but is -0.1 instead."),
        (lambda: HeldoutBeta(share=1.0), "`share` must be in (0, 1), but is 1.0 instead."),
        (
            lambda: HeldoutBeta(bounds=(1.0, 1.0)),
            "`bounds` must be two rising numbers above 0, but are (1.0, 1.0) instead.",
        ),
        (
            lambda: HeldoutBeta(share=0.01).divided(WORLD, PAIRS),
            "`share` must hold out at least one of 20 train prompts and not all of them, but is 0.01 instead.",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
