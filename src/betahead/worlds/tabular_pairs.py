"""Preference pairs of a tabular world: sampled with their noise, or all of them with their exact chances."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from betahead.worlds.tabular import PAIR_STREAM, SHUFFLE_STREAM, TabularWorld


@dataclass(frozen=True, eq=False)
class TabularPairs:
    """Labelled pairs of answers to train prompts.

    Args:
        prompt: number of the prompt, in the order of the world's train prompts.
        chosen: number of the answer that the label prefers.
        rejected: number of the other one.
        weight: how much a pair counts; sums to 1 for every seed.
        flipped: whether noise turned the label round, as the truth knows; false throughout for expected pairs.
    """

    prompt: Int[Tensor, "seeds pairs"]
    chosen: Int[Tensor, "seeds pairs"]
    rejected: Int[Tensor, "seeds pairs"]
    weight: Float[Tensor, "seeds pairs"]
    flipped: Bool[Tensor, "seeds pairs"]


def sampled_pairs(world: TabularWorld) -> TabularPairs:
    """`pairs_per_prompt` pairs for every train prompt: two different answers from the reference, labelled on gold.

    The label is a Bradley–Terry draw at the topic's temperature, then turned round with the topic's `label_noise`. A
    seed gives the same pairs whatever the other seeds are.
    """
    s = world.settings
    n = s.train_prompts * s.pairs_per_prompt
    prompt = torch.arange(s.train_prompts).repeat_interleave(s.pairs_per_prompt)
    topic = world.topic[prompt]
    temperature = torch.tensor([t.temperature for t in s.topics], dtype=torch.float64)[topic]
    noise = world.topic_noise[topic]
    chosen: list[Tensor] = []
    rejected: list[Tensor] = []
    flipped: list[Tensor] = []
    for number, seed in enumerate(world.seeds):
        rng = np.random.default_rng([seed, PAIR_STREAM])
        draws = torch.from_numpy(rng.random((3, n)))
        cumulated = _pair_chances(world.ref_logps[number, : s.train_prompts]).cumsum(-1)[prompt]
        # The last entry of a cumulated sum may fall short of 1 by rounding.
        drawn = torch.searchsorted(cumulated, draws[0][:, None] * cumulated[:, -1:], right=True).squeeze(-1)
        drawn = drawn.clamp(max=s.answers**2 - 2)
        first, second = drawn // s.answers, drawn % s.answers
        gold = world.gold[number, : s.train_prompts][prompt]
        gap = gold.gather(1, first[:, None]) - gold.gather(1, second[:, None])
        honest = draws[1] < torch.sigmoid(gap.squeeze(-1) / temperature)
        turned = draws[2] < noise
        first_wins = honest ^ turned
        chosen.append(torch.where(first_wins, first, second))
        rejected.append(torch.where(first_wins, second, first))
        flipped.append(turned)
    return TabularPairs(
        prompt=prompt.expand(len(world.seeds), n),
        chosen=torch.stack(chosen),
        rejected=torch.stack(rejected),
        weight=torch.full((len(world.seeds), n), 1.0 / n, dtype=torch.float64),
        flipped=torch.stack(flipped),
    )


def expected_pairs(world: TabularWorld) -> TabularPairs:
    """Every ordered pair of different answers, weighted by its chance: the data set without end.

    The weight is π_ref(a)·π_ref(b)·p(a ≻ b), the label noise in p, each prompt counting the same.
    """
    s = world.settings
    seeds, prompts, answers = len(world.seeds), s.train_prompts, s.answers
    ref = world.ref_logps[:, :prompts]
    gold = world.gold[:, :prompts]
    topic = world.topic[:prompts][None, :, None, None].expand(seeds, prompts, answers, answers)
    label = world.win_probability(
        gold[..., :, None].expand_as(topic), gold[..., None, :].expand_as(topic), topic
    ).flatten(-2)
    # Both orders of a pair are in the sum, and so are both draws: π(a)π(b) once for (a, b) and once for (b, a).
    weight = 2 * _pair_chances(ref) * label / prompts
    first, second = (
        grid.flatten() for grid in torch.meshgrid(torch.arange(answers), torch.arange(answers), indexing="ij")
    )
    different = first != second
    kept = int(different.sum())
    prompt = torch.arange(prompts).repeat_interleave(kept)
    return TabularPairs(
        prompt=prompt.expand(seeds, -1),
        chosen=first[different].repeat(prompts).expand(seeds, -1),
        rejected=second[different].repeat(prompts).expand(seeds, -1),
        weight=weight[..., different].flatten(1),
        flipped=torch.zeros(seeds, prompts * kept, dtype=torch.bool),
    )


def clean_labels(pairs: TabularPairs) -> TabularPairs:
    """The same pairs with every flip undone; honest disagreement stays."""
    return replace(
        pairs,
        chosen=torch.where(pairs.flipped, pairs.rejected, pairs.chosen),
        rejected=torch.where(pairs.flipped, pairs.chosen, pairs.rejected),
        flipped=torch.zeros_like(pairs.flipped),
    )


def shuffled_labels(world: TabularWorld, pairs: TabularPairs) -> TabularPairs:
    """The same pairs with every label drawn by a fair coin, so that they say nothing about gold."""
    coins = [np.random.default_rng([seed, SHUFFLE_STREAM]).random(pairs.chosen.shape[1]) < 0.5 for seed in world.seeds]
    turned = torch.from_numpy(np.stack(coins))
    return replace(
        pairs,
        chosen=torch.where(turned, pairs.rejected, pairs.chosen),
        rejected=torch.where(turned, pairs.chosen, pairs.rejected),
        flipped=pairs.flipped ^ turned,
    )


def _pair_chances(ref_logps: Float[Tensor, "*any answers"]) -> Float[Tensor, "*any square"]:
    """Chance of every ordered pair, given that the two draws differ; pair (a, b) lies at a·answers + b."""
    ref = ref_logps.exp()
    both = ref[..., :, None] * ref[..., None, :]
    both = both * (1 - torch.eye(ref.shape[-1], dtype=torch.float64))
    flat = both.flatten(-2)
    return flat / flat.sum(-1, keepdim=True)
