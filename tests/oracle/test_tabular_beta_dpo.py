"""β-DPO in tabular worlds against its steps written as a loop, and its draws against numpy's own."""

import math

import numpy as np
import pytest
import torch

from betahead.errors import ConfigError
from betahead.worlds.tabular import CONTROL_STREAM, tabular_world
from betahead.worlds.tabular_batch import BatchBeta
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_settings import TabularSettings, TabularTopic
from betahead.worlds.tabular_training import train

SEED, BETA, RATE, RESPONSE, DROP, BATCH, STEPS = 11, 0.4, 0.3, 0.9, 0.25, 10, 8
SETTINGS = TabularSettings(
    topics=(TabularTopic(name="one", label_noise=0.2),),
    train_prompts=12,
    eval_prompts=2,
    test_prompts=20,
    answers=3,
    features=2,
    world_share=1.0,
    topic_share=0.0,
)


def test_a_training_is_the_loop_of_the_released_code_on_the_same_draws():
    world = tabular_world(SETTINGS, [SEED])
    pairs = sampled_pairs(world)
    runs = Runs.with_beta([BETA], [RATE])
    training = Training(steps=STEPS, optimizer="gd", batch_pairs=BATCH)
    found = train(world, pairs, runs, training, BatchBeta(response=RESPONSE, drop=DROP))

    features = world.features[0].numpy()
    prompt, chosen, rejected = (part[0].numpy() for part in (pairs.prompt, pairs.chosen, pairs.rejected))
    difference = features[prompt, chosen] - features[prompt, rejected]
    order = np.random.default_rng([SEED, 2])
    draws = np.random.default_rng([SEED, CONTROL_STREAM])
    theta, mean, spread = np.zeros(features.shape[-1]), 0.0, 0.0
    queue: list[int] = []
    for _ in range(STEPS):
        while len(queue) < BATCH:
            queue += order.permutation(len(prompt)).tolist()
        batch, queue = queue[:BATCH], queue[BATCH:]
        margins = [float(difference[pair] @ theta) for pair in batch]
        mean = 0.9 * mean + 0.1 * sum(margins) / BATCH
        around = sum(margins) / BATCH
        spread = 0.9 * spread + 0.1 * math.sqrt(sum((h - around) ** 2 for h in margins) / (BATCH - 1))
        noise = draws.gumbel(size=BATCH)
        left, kept = list(range(BATCH)), []
        for _ in range(math.floor(BATCH * (1 - DROP))):
            # The largest noisy log chance among those left: one draw without replacement.
            taken = max(left, key=lambda i: noise[i] - 0.5 * ((margins[i] - mean) / max(spread, 1e-6)) ** 2)
            left.remove(taken)
            kept.append(taken)
        beta = max(BETA * (1 + RESPONSE * (sum(margins[i] for i in kept) / len(kept) - mean)), 1e-3)
        gradient = np.zeros_like(theta)
        for i in kept:
            gradient -= beta / (1 + math.exp(beta * margins[i])) * difference[batch[i]] / len(kept)
        theta -= RATE * gradient
    np.testing.assert_allclose(found.shared[0, 0].numpy(), theta, rtol=1e-10)


def test_pairs_are_kept_as_often_as_drawing_without_replacement_keeps_them():
    margin = np.array([-2.0, -0.5, 0.0, 0.4, 1.0, 3.0])
    times = 4000
    world = tabular_world(SETTINGS, range(times))
    course = BatchBeta(response=0.0, drop=0.5).begin(world, 1)
    course.mean.fill_(0.0)
    course.spread.fill_(1.0)
    given = torch.from_numpy(margin).expand(times, 1, 6)
    # The moving statistics after one step, which the draws of that step use.
    mean, spread = 0.1 * margin.mean(), 0.9 + 0.1 * margin.std(ddof=1)
    zeros = torch.zeros_like(given)
    kept = (course.shaping(zeros, zeros, given).weight.view(times, 6) > 0).double().mean(0).numpy()
    chances = np.exp(-0.5 * ((margin - mean) / spread) ** 2)
    rng = np.random.default_rng(0)
    counts = np.zeros(6)
    for _ in range(times):
        counts[rng.choice(6, size=3, replace=False, p=chances / chances.sum())] += 1
    np.testing.assert_allclose(kept, counts / times, atol=4 * math.sqrt(0.5 / times))
    assert kept.sum() == pytest.approx(3.0)


def test_beta_never_falls_below_its_floor():
    world = tabular_world(SETTINGS, [SEED])
    course = BatchBeta(response=50.0, drop=0.0).begin(world, 1)
    margin = torch.full((1, 1, 4), -1.0, dtype=torch.float64)
    shaping = course.shaping(torch.zeros_like(margin), torch.zeros_like(margin), margin)
    assert shaping.beta.tolist() == [1e-3] * 4 and shaping.weight.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchBeta(response=-1.0), "`response` must be at least 0, but is -1.0 instead."),
        (lambda: BatchBeta(drop=1.0), "`drop` must be in [0, 1), but is 1.0 instead."),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
