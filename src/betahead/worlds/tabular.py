"""Tabular worlds: contextual bandits in which reward, KL and the best policy are exact numbers.

A world is stacked over seeds: `seeds` is the first axis of every tensor, so that many worlds of one kind are trained at
once. Prompts lie in the order train, eval, test; only those of `train` have pairs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.worlds.tabular_settings import TabularSettings
from betahead.worlds.world import Split

# Streams of a world's seed: the world, its pairs and the order of its batches never share a draw.
WORLD_STREAM, PAIR_STREAM, BATCH_STREAM, SHUFFLE_STREAM, CONTROL_STREAM, HELDOUT_STREAM = range(6)

_BISECTIONS = 60


@dataclass(frozen=True, eq=False)
class TabularWorld:
    """Prompts with a finite set of answers, stacked over seeds.

    Args:
        features: the part φ(x, y) that prompts share; the policy's logits are `features · θ + private · table`.
        ref_logps: log π_ref(y|x).
        gold: r(x, y).
        wins: chance that an answer beats one drawn from the reference, ties counted half.
        topic: the number of each prompt's topic, the same for all seeds.
        private: how strongly a prompt's own table of logits enters; 1 with shares of 0, which is the tabular policy.
    """

    settings: TabularSettings
    seeds: tuple[int, ...]
    features: Float[Tensor, "seeds prompts answers features"]
    ref_logps: Float[Tensor, "seeds prompts answers"]
    gold: Float[Tensor, "seeds prompts answers"]
    wins: Float[Tensor, "seeds prompts answers"]
    topic: Int[Tensor, " prompts"]
    private: float

    @property
    def splits(self) -> Mapping[Split, slice]:
        """Where the prompts of each split lie."""
        s = self.settings
        ends = np.cumsum([0, s.train_prompts, s.eval_prompts, s.test_prompts]).tolist()
        names: tuple[Split, ...] = ("train", "eval", "test")
        return {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(names)}

    @property
    def topic_noise(self) -> Float[Tensor, " topics"]:
        """Probability that a label is flipped, per topic."""
        return torch.tensor([topic.label_noise for topic in self.settings.topics], dtype=torch.float64)

    def win_probability(
        self, first: Float[Tensor, "*any"], second: Float[Tensor, "*any"], topic: Int[Tensor, "*any"]
    ) -> Float[Tensor, "*any"]:
        """Chance that a label prefers an answer of gold `first` over one of gold `second`, flips included.

        p = (1 − ε)·σ((r₁ − r₂)/temperature) + ε·(1 − σ((r₁ − r₂)/temperature)).
        """
        temperature = torch.tensor([t.temperature for t in self.settings.topics], dtype=torch.float64)[topic]
        honest = torch.sigmoid((first - second) / temperature)
        noise = self.topic_noise[topic]
        return (1 - noise) * honest + noise * (1 - honest)


def tabular_world(settings: TabularSettings, seeds: Sequence[int]) -> TabularWorld:
    """The world of each seed, stacked; a seed gives the same world whatever the other seeds are."""
    topic = np.concatenate(
        [
            np.repeat(np.arange(len(settings.topics)), settings.topic_counts(n))
            for n in (settings.train_prompts, settings.eval_prompts, settings.test_prompts)
        ]
    )
    drawn = [_one_world(settings, seed, topic) for seed in seeds]
    features, ref_logps, gold = (torch.from_numpy(np.stack(part)) for part in zip(*drawn, strict=True))
    beats = (gold[..., :, None] > gold[..., None, :]).double() + 0.5 * (gold[..., :, None] == gold[..., None, :])
    return TabularWorld(
        settings=settings,
        seeds=tuple(seeds),
        features=features,
        ref_logps=ref_logps,
        gold=gold,
        wins=(beats @ ref_logps.exp()[..., None]).squeeze(-1),
        topic=torch.from_numpy(topic),
        private=math.sqrt(settings.private_share),
    )


def _one_world(
    settings: TabularSettings, seed: int, topic: "np.ndarray[tuple[int], np.dtype[np.int64]]"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, WORLD_STREAM])
    prompts, topics = len(topic), len(settings.topics)
    # Features of their own for the world and for the topics, so that their parts of gold add up in variance.
    everywhere, within = rng.standard_normal((2, prompts, settings.answers, settings.features))
    own = rng.standard_normal((prompts, settings.answers))
    towards = rng.standard_normal((topics + 1, settings.features))
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    stray = rng.standard_normal((prompts, settings.answers))

    # The block of a topic is zero outside of it, so one matrix product serves what all prompts share and what a
    # topic's prompts share.
    blocks: list[np.ndarray] = []
    if settings.world_share > 0:
        blocks.append(math.sqrt(settings.world_share) * everywhere)
    if settings.topic_share > 0:
        inside = np.equal.outer(topic, np.arange(topics))
        spread = within[:, :, None, :] * inside[:, None, :, None]
        blocks.append(math.sqrt(settings.topic_share) * spread.reshape(prompts, settings.answers, -1))
    features = np.concatenate(blocks, axis=-1) if blocks else np.zeros((prompts, settings.answers, 0))

    unit = (
        math.sqrt(settings.world_share) * everywhere @ towards[-1]
        + math.sqrt(settings.topic_share) * np.einsum("pad,pd->pa", within, towards[:-1][topic])
        + math.sqrt(settings.private_share) * own
    )
    scale = np.array([t.reward_scale for t in settings.topics])[topic]
    familiarity = np.array([t.familiarity for t in settings.topics])[topic]
    skill = settings.reference_skill
    logits = familiarity[:, None] * (skill * unit + math.sqrt(1 - skill**2) * stray)
    highest = logits.max(axis=-1, keepdims=True)
    ref_logps = logits - highest - np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True))
    return features, ref_logps, scale[:, None] * unit


@dataclass(frozen=True, eq=False)
class Scores:
    """What a policy is worth, exactly: expected gold, KL(π‖π_ref) in nats, and chance to beat a reference answer."""

    reward: Float[Tensor, "*any"]
    kl: Float[Tensor, "*any"]
    win_rate: Float[Tensor, "*any"]


def exact_scores(world: TabularWorld, logps: Float[Tensor, "seeds configs prompts answers"], split: Split) -> Scores:
    """Scores per prompt of policies given by their log-probabilities on the split's prompts."""
    here = world.splits[split]
    probs = logps.exp()
    return Scores(
        reward=(probs * world.gold[:, None, here]).sum(-1),
        kl=exact_kl(world, logps, split),
        win_rate=(probs * world.wins[:, None, here]).sum(-1),
    )


def exact_kl(
    world: TabularWorld, logps: Float[Tensor, "seeds configs prompts answers"], split: Split
) -> Float[Tensor, "seeds configs prompts"]:
    """KL(π‖π_ref) per prompt (nats) of policies given by their log-probabilities on the split's prompts."""
    probs = logps.exp()
    # An answer that the policy never gives has 0·log 0 = 0 in the sum.
    log_ratio = torch.where(probs > 0, logps - world.ref_logps[:, None, world.splits[split]], 0.0)
    return (probs * log_ratio).sum(-1)


def mean_scores(scores: Scores) -> Scores:
    """The same, averaged over the prompts (the last axis)."""
    return Scores(reward=scores.reward.mean(-1), kl=scores.kl.mean(-1), win_rate=scores.win_rate.mean(-1))


def best_logps(
    world: TabularWorld, beta: Float[Tensor, "seeds configs prompts"], split: Split
) -> Float[Tensor, "seeds configs prompts answers"]:
    """The policy that maximises reward − β(x)·KL on every prompt: π* ∝ π_ref · exp(r/β(x)).

    Args:
        beta: β > 0 of every prompt of the split; axes of one are stretched.
    """
    here = world.splits[split]
    return torch.log_softmax(world.ref_logps[:, None, here] + world.gold[:, None, here] / beta[..., None], dim=-1)


def kl_quartiles(world: TabularWorld, split: Split) -> Float[Tensor, " three"]:
    """The KL at which π*_β has won a quarter, a half and three quarters of what the best answers win, mean over seeds.

    These belong to the world, not to a method, so that they can be fixed before anything is trained.
    """
    here = world.splits[split]
    worst = mean_scores(exact_scores(world, world.ref_logps[:, None, here], split)).reward
    best = world.gold[:, None, here].amax(-1).mean(-1)
    shares = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    wanted = worst + shares * (best - worst)
    low, high = torch.full_like(wanted, -12.0), torch.full_like(wanted, 12.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        scores = mean_scores(exact_scores(world, best_logps(world, middle.exp()[..., None], split), split))
        short = scores.reward < wanted
        low, high = torch.where(short, low, middle), torch.where(short, middle, high)
    last = exact_scores(world, best_logps(world, low.exp()[..., None], split), split)
    return mean_scores(last).kl.mean(0)
