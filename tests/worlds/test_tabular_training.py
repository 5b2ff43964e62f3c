"""Training in tabular worlds against closed forms, and against itself by another road."""

import math
from dataclasses import replace

import pytest
import torch

from betahead.errors import ConfigError
from betahead.worlds.tabular import best_logps, tabular_world
from betahead.worlds.tabular_budget import BudgetBeta
from betahead.worlds.tabular_heldout import HeldoutBeta
from betahead.worlds.tabular_learning import HeldBeta, JointBeta, PerspectiveBeta, groups_of
from betahead.worlds.tabular_pairs import expected_pairs, sampled_pairs, shuffled_labels
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_settings import TabularSettings, TabularTopic
from betahead.worlds.tabular_training import policy_logps, train

TOPICS = (TabularTopic(name="clean"), TabularTopic(name="noisy", label_noise=0.4))
MIXED = TabularSettings(
    topics=TOPICS, train_prompts=20, eval_prompts=6, test_prompts=40, answers=4, features=3, pairs_per_prompt=4
)
TABULAR = replace(MIXED, world_share=0.0, topic_share=0.0, topics=TOPICS[:1], train_prompts=5)


def test_tabular_dpo_on_endless_clean_pairs_is_the_closed_form():
    world = tabular_world(TABULAR, [0, 1])
    betas = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64)
    runs = Runs.with_beta(betas.tolist(), [0.1, 0.1, 0.1])
    done = train(world, expected_pairs(world), runs, Training(steps=1500, schedule="linear"))
    learned = policy_logps(world, done.shared, done.table, "train").exp()
    best = best_logps(world, betas[None, :, None].expand(2, 3, 5), "train").exp()
    assert (learned - best).abs().max() < 1e-3


def test_the_closed_form_is_reached_with_a_beta_for_every_prompt_too():
    world = tabular_world(TABULAR, [2])
    beta = torch.tensor([0.3, 0.5, 1.0, 2.0, 4.0], dtype=torch.float64)[None, None]
    runs = Runs(log_beta=beta.log(), learning_rate=torch.tensor([0.1], dtype=torch.float64))
    done = train(world, expected_pairs(world), runs, Training(steps=1500, schedule="linear"))
    learned = policy_logps(world, done.shared, done.table, "train").exp()
    assert (learned - best_logps(world, beta, "train").exp()).abs().max() < 1e-3


def test_flips_act_on_fixed_beta_as_a_compressed_reward():
    # Two answers: the learned gap of log-ratios is logit(p)/β, p with its flips.
    noisy = TabularTopic(name="noisy", label_noise=0.3)
    world = tabular_world(replace(TABULAR, topics=(noisy,), answers=2), [0])
    done = train(world, expected_pairs(world), Runs.with_beta([0.5], [0.1]), Training(steps=1500, schedule="linear"))
    gap = done.table[0, 0, :, 0] - done.table[0, 0, :, 1]
    p = world.win_probability(world.gold[0, :5, 0], world.gold[0, :5, 1], world.topic[:5])
    torch.testing.assert_close(gap, torch.logit(p) / 0.5, rtol=1e-3, atol=1e-3)


LEARNINGS = [
    HeldBeta(),
    JointBeta(learning_rate=0.05),
    PerspectiveBeta(learning_rate=0.05, per="topic"),
    PerspectiveBeta(learning_rate=0.05, regulariser="linear", per="world"),
    HeldoutBeta(learning_rate=0.05),
    BudgetBeta(target_kl=0.1, allocation=PerspectiveBeta(learning_rate=0.05)),
]


@pytest.mark.parametrize("batch_pairs", [None, 7])
@pytest.mark.parametrize("optimizer", ["adamw", "gd"])
@pytest.mark.parametrize("learning", LEARNINGS, ids=lambda learning: type(learning).__name__)
def test_a_run_among_others_is_the_run_alone(learning, optimizer, batch_pairs):
    betas, rates, seeds = [0.1, 1.0, 3.0], [0.03, 0.1, 0.01], [4, 5, 6]
    training = Training(steps=12, optimizer=optimizer, batch_pairs=batch_pairs, weight_decay=0.01)
    world = tabular_world(MIXED, seeds)
    together = train(world, sampled_pairs(world), Runs.with_beta(betas, rates), training, learning)
    for s, seed in enumerate(seeds):
        alone_world = tabular_world(MIXED, [seed])
        for c in range(3):
            runs = Runs.with_beta(betas[c : c + 1], rates[c : c + 1])
            alone = train(alone_world, sampled_pairs(alone_world), runs, training, learning)
            for one, many in (
                (alone.scores.reward[:, 0, 0], together.scores.reward[:, s, c]),
                (alone.scores.kl[:, 0, 0], together.scores.kl[:, s, c]),
                (alone.scores.win_rate[:, 0, 0], together.scores.win_rate[:, s, c]),
                (alone.log_beta[0, 0], together.log_beta[s, c]),
            ):
                torch.testing.assert_close(one, many, rtol=1e-12, atol=1e-12)


def test_how_many_runs_are_worked_on_at_once_changes_nothing(monkeypatch):
    world = tabular_world(MIXED, [0, 1])
    pairs, runs = sampled_pairs(world), Runs.with_beta([0.1, 0.3, 1.0], [0.1] * 3)
    at_once = train(world, pairs, runs, Training(steps=5, batch_pairs=9))
    monkeypatch.setattr("betahead.worlds.tabular_training._AT_ONCE", 1)
    torch.testing.assert_close(
        train(world, pairs, runs, Training(steps=5, batch_pairs=9)).scores.kl, at_once.scores.kl, rtol=0, atol=1e-12
    )


def test_the_gradient_is_that_of_the_loss_written_out():
    world = tabular_world(MIXED, [0])
    pairs = sampled_pairs(world)
    done = train(world, pairs, Runs.with_beta([0.5], [0.1]), Training(steps=1, optimizer="gd"))
    shared = torch.zeros(world.features.shape[-1], dtype=torch.float64, requires_grad=True)
    table = torch.zeros(20, 4, dtype=torch.float64, requires_grad=True)
    logps = torch.log_softmax(world.ref_logps[0, :20] + world.features[0, :20] @ shared + world.private * table, -1)
    ratio = logps - world.ref_logps[0, :20]
    prompt = pairs.prompt[0]
    margin = ratio[prompt, pairs.chosen[0]] - ratio[prompt, pairs.rejected[0]]
    (-torch.nn.functional.logsigmoid(0.5 * margin)).mean().backward()
    torch.testing.assert_close(done.shared[0, 0], -0.1 * shared.grad)
    torch.testing.assert_close(done.table[0, 0], -0.1 * table.grad)


def test_the_quadratic_perspective_reaches_the_tau_that_its_labels_carry():
    # One kind of pair per prompt: its label says "first" with a chance that is known.
    noise, rho, start = 0.1, 0.1, 0.1
    topic = TabularTopic(name="one", label_noise=noise, reward_scale=2.0)
    world = tabular_world(replace(TABULAR, topics=(topic,), answers=2, train_prompts=6), [0])
    learning = PerspectiveBeta(learning_rate=0.05, rho=rho, per="prompt")
    done = train(
        world,
        expected_pairs(world),
        Runs.with_beta([start], [0.1]),
        Training(steps=2000, schedule="linear"),
        learning,
    )
    p = world.win_probability(world.gold[0, :6, 0], world.gold[0, :6, 1], world.topic[:6])
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    informative = (p - 0.5).abs() > 0.1
    assert int(informative.sum()) >= 3
    beta = done.log_beta[0, 0].exp()
    wanted = 2 * rho * start / (math.log(2) - entropy)
    torch.testing.assert_close(beta[informative], wanted[informative], rtol=0.01, atol=0)


def test_joint_learning_drives_beta_up_to_its_bound():
    world = tabular_world(replace(MIXED, topics=TOPICS[:1]), [0])
    learning = JointBeta(learning_rate=0.2, prior_weight=0.0, widest=5.0, per="topic")
    done = train(world, sampled_pairs(world), Runs.with_beta([0.1], [0.05]), Training(steps=60), learning)
    assert done.log_beta.exp().flatten().tolist() == pytest.approx([0.5] * 20)


def test_shuffled_labels_raise_no_gold():
    world = tabular_world(replace(MIXED, train_prompts=60), range(20))
    pairs = sampled_pairs(world)
    runs = Runs.with_beta([0.3], [0.03])

    def gain(of):
        reward = train(world, of, runs, Training(steps=40)).on("test").reward
        return (reward[..., -1] - reward[..., 0]).flatten()

    labels, coins = gain(pairs), gain(shuffled_labels(world, pairs))
    error = float(coins.std()) / math.sqrt(20)
    assert abs(float(coins.mean())) < 3 * error
    assert float(labels.mean()) > 5 * error


def test_the_closed_form_is_the_envelope_of_everything_that_was_trained():
    world = tabular_world(MIXED, range(3))
    grid = [(beta, rate) for beta in (0.03, 0.3, 3.0) for rate in (0.03, 0.3)]
    done = train(world, sampled_pairs(world), Runs.with_beta(*zip(*grid, strict=True)), Training(steps=40))
    for split, here in world.splits.items():
        scores = done.on(split)
        for price in (0.03, 0.1, 0.3, 1.0, 3.0):
            best = price * torch.logsumexp(world.ref_logps[:, here] + world.gold[:, here] / price, -1).mean(-1)
            assert (scores.reward - price * scores.kl <= best[:, None, None] + 1e-12).all()


def test_dropped_pairs_leave_no_trace():
    world = tabular_world(MIXED, [0])
    pairs = sampled_pairs(world)
    clean = (world.topic[:20] == 0).double()
    runs = replace(Runs.with_beta([0.3], [0.1]), weight=clean[None, None])
    dropped = train(world, pairs, runs, Training(steps=10))
    kept = world.topic[pairs.prompt] == 0
    only = replace(
        pairs,
        prompt=pairs.prompt[kept][None],
        chosen=pairs.chosen[kept][None],
        rejected=pairs.rejected[kept][None],
        weight=pairs.weight[kept][None] / pairs.weight[kept].sum(),
        flipped=pairs.flipped[kept][None],
    )
    alone = train(world, only, Runs.with_beta([0.3], [0.1]), Training(steps=10))
    torch.testing.assert_close(dropped.scores.reward, alone.scores.reward, rtol=1e-9, atol=1e-9)


def test_only_train_prompts_move_when_prompts_share_nothing():
    world = tabular_world(replace(TABULAR, train_prompts=8), [0])
    done = train(world, sampled_pairs(world), Runs.with_beta([0.1], [0.1]), Training(steps=10))
    assert done.on("train").kl[0, 0, -1] > 0.01
    assert done.on("test").kl.abs().max() < 1e-12


def test_a_run_that_diverges_is_kept_and_said_to_have_diverged():
    world = tabular_world(MIXED, [0])
    runs = Runs.with_beta([0.3, 0.3], [0.1, math.inf])
    done = train(world, sampled_pairs(world), runs, Training(steps=5))
    assert done.diverged.tolist() == [[False, True]]
    assert not done.on("test").reward[0, 1, -1].isfinite()


def test_checkpoints_are_shares_of_the_steps_and_begin_with_the_reference():
    world = tabular_world(MIXED, [0])
    runs = Runs.with_beta([0.3], [0.1])
    long = train(world, sampled_pairs(world), runs, Training(steps=40))
    short = train(world, sampled_pairs(world), runs, Training(steps=10, checkpoints=(1.0,)))
    assert Training(steps=40).scored_steps == [0, 4, 10, 20, 30, 40]
    assert long.on("test").kl[0, 0, 0].abs() < 1e-12
    torch.testing.assert_close(long.on("test").kl[..., 2], short.on("test").kl[..., 1])


def test_beta_is_learned_for_each_prompt_each_topic_or_all():
    world = tabular_world(MIXED, [0])
    assert groups_of(world, "prompt").tolist() == list(range(20))
    assert groups_of(world, "topic").tolist() == [0] * 10 + [1] * 10
    assert groups_of(world, "world").tolist() == [0] * 20


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Training(steps=0), "`steps` must be at least 1, but is 0 instead."),
        (
            lambda: Training(batch_pairs=0),
            "`batch_pairs` must be at least 1 or None for all, but is 0 instead.",
        ),
        (lambda: Training(weight_decay=-1.0), "`weight_decay` must be at least 0, but is -1.0 instead."),
        (
            lambda: Training(checkpoints=(0.5, 0.2)),
            "`checkpoints` must be rising shares of the steps in (0, 1], but are (0.5, 0.2) instead.",
        ),
        (
            lambda: Runs.with_beta([0.1, -1.0], [0.1, 0.1]),
            "`beta` and `learning_rate` must be equally many numbers above 0, "
            "but are [0.1, -1.0] and [0.1, 0.1] instead.",
        ),
        (
            lambda: Runs.with_beta([0.1], []),
            "`beta` and `learning_rate` must be equally many numbers above 0, but are [0.1] and [] instead.",
        ),
        (lambda: JointBeta(learning_rate=0.0), "`learning_rate` must be above 0, but is 0.0 instead."),
        (lambda: JointBeta(prior_weight=-1.0), "`prior_weight` must be at least 0, but is -1.0 instead."),
        (lambda: JointBeta(widest=1.0), "`widest` must be above 1, but is 1.0 instead."),
        (lambda: PerspectiveBeta(rho=0.0), "`rho` must be above 0, but is 0.0 instead."),
        (
            lambda: PerspectiveBeta(regulariser="linear", rho=0.7),
            "`rho` must be below log 2 with the linear regulariser, but is 0.7 instead.",
        ),
        (
            lambda: PerspectiveBeta(bounds=(1.0, 0.1)),
            "`bounds` must be two rising numbers above 0, but are (1.0, 0.1) instead.",
        ),
    ],
)
def test_settings_of_training_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
