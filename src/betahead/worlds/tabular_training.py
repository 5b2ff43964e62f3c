"""Train thousands of tabular policies at once: seeds × configurations, exact reward and KL along the way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.worlds.tabular import BATCH_STREAM, Scores, TabularWorld, exact_kl, exact_scores, mean_scores
from betahead.worlds.tabular_course import Course
from betahead.worlds.tabular_learning import BetaLearning, HeldBeta
from betahead.worlds.tabular_pairs import TabularPairs
from betahead.worlds.tabular_policies import Contrasts, Parameters, Policies, Weighed
from betahead.worlds.tabular_registered import RegisteredCourse, RegisteredRule
from betahead.worlds.tabular_runs import SCORED, Runs, Trained, Training
from betahead.worlds.world import Split

# Numbers of one tensor that are worked on at once: more would leave the processor's caches.
_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class Moment:
    """Policies and β at a checkpoint: θ, each train prompt's own logits, and log β of the train prompts."""

    shared: Float[Tensor, "seeds configs features"]
    table: Float[Tensor, "seeds configs prompts answers"]
    log_beta: Float[Tensor, "seeds configs prompts"]


Measuring = Callable[[Moment], Mapping[str, Float[np.ndarray, "seeds configs"]]]
"""What is measured at every checkpoint, by name."""


def train(
    world: TabularWorld,
    pairs: TabularPairs,
    runs: Runs,
    training: Training | None = None,
    learning: BetaLearning | RegisteredRule | None = None,
    *,
    splits: Sequence[Split] = SCORED,
    by_prompt: bool = False,
    measuring: Measuring | None = None,
) -> Trained:
    """Train every configuration in the world of every seed; each run is the same as if it were trained alone.

    Args:
        splits: the prompts that policies are scored on.
        by_prompt: keep the scores of every prompt of the first of them.
        measuring: further numbers of every checkpoint; nothing of the training depends on it.
    """
    training, learning = training or Training(), learning or HeldBeta()
    largest = max(pairs.prompt.numel(), world.gold.numel(), 1)
    size = max(1, _AT_ONCE // largest)
    parts: list[Trained] = []
    for first in range(0, runs.learning_rate.shape[0], size):
        some = slice(first, first + size)
        parts.append(
            _train(
                world, pairs, runs.configs(some), training, learning.configs(some), tuple(splits), by_prompt, measuring
            )
        )
    each = [part.by_prompt for part in parts if part.by_prompt is not None]
    return Trained(
        scores=_of_parts([part.scores for part in parts], partial(torch.cat, dim=2)),
        shared=torch.cat([part.shared for part in parts], dim=1),
        table=torch.cat([part.table for part in parts], dim=1),
        log_beta=torch.cat([part.log_beta for part in parts], dim=1),
        splits=tuple(splits),
        by_prompt=_of_parts(each, partial(torch.cat, dim=1)) if each else None,
        measured={name: np.concatenate([part.measured[name] for part in parts], axis=1) for name in parts[0].measured},
    )


def policy_logps(
    world: TabularWorld, shared: Tensor, table: Tensor, split: Split
) -> Float[Tensor, "seeds configs prompts answers"]:
    """log π_θ on the prompts of a split; the tables matter on train prompts only."""
    here = world.splits[split]
    features = world.features[:, here]
    flat = shared @ features.flatten(1, 2).transpose(1, 2)
    logits = flat.unflatten(-1, features.shape[1:3])
    if split == "train" and world.private > 0:
        logits = logits + world.private * table
    return torch.log_softmax(world.ref_logps[:, None, here] + logits, dim=-1)


def _train(
    world: TabularWorld,
    pairs: TabularPairs,
    runs: Runs,
    training: Training,
    learning: BetaLearning | RegisteredRule,
    splits: tuple[Split, ...],
    by_prompt: bool,
    measuring: Measuring | None,
) -> Trained:
    seeds, configs = len(world.seeds), runs.learning_rate.shape[0]
    prompts, answers = world.settings.train_prompts, world.settings.answers
    policies = Policies(world, runs.learning_rate, training)
    pairs, held_out = learning.divided(world, pairs)
    weight = _pair_weights(pairs, runs, prompts)
    if isinstance(learning, RegisteredRule):
        beta = RegisteredCourse(world, runs, learning)
    else:
        beta = Course(world, runs, learning, training, None if held_out is None else _weighed(world, held_out, runs))

    unused = torch.zeros(seeds, configs, prompts, answers, dtype=torch.float64)

    def own(flat: Tensor) -> Float[Tensor, "seeds configs prompts answers"]:
        return flat.unflatten(-1, (prompts, answers)) if world.private > 0 else unused

    scored: list[list[Scores]] = []
    measured: list[Mapping[str, np.ndarray]] = []
    batches = _batches(world, pairs, training)
    for step in range(training.steps + 1):
        if step in training.scored_steps:
            scored.append([_scores(world, policies.at, split) for split in splits])
            if measuring is not None:
                measured.append(measuring(Moment(policies.at.shared, own(policies.at.table), beta.seen)))
        if step == training.steps:
            break
        if beta.reads_kl:
            beta.read(exact_kl(world, _logps(world, policies.at, "train"), "train").mean(-1))
        at = next(batches)
        now = weight.gather(2, at[:, None].expand(-1, configs, -1)) * (pairs.prompt.shape[1] / at.shape[1])
        batch = Weighed(
            Contrasts.of(world, *(part.gather(1, at) for part in (pairs.prompt, pairs.chosen, pairs.rejected))), now
        )
        share = 1.0 - step / training.steps if training.schedule == "linear" else 1.0
        beta.descend(policies, batch, share)

    return Trained(
        scores=_stacked([[mean_scores(scores) for scores in by_split] for by_split in scored]),
        shared=policies.at.shared,
        table=own(policies.at.table),
        log_beta=beta.acting,
        splits=splits,
        by_prompt=_each_prompt([by_split[0] for by_split in scored]) if by_prompt else None,
        measured={name: np.stack([each[name] for each in measured], axis=-1) for name in (measured or [{}])[0]},
    )


def _weighed(world: TabularWorld, pairs: TabularPairs, runs: Runs) -> Weighed:
    weight = _pair_weights(pairs, runs, world.settings.train_prompts)
    return Weighed(Contrasts.of(world, pairs.prompt, pairs.chosen, pairs.rejected), weight)


def _pair_weights(pairs: TabularPairs, runs: Runs, prompts: int) -> Float[Tensor, "seeds configs pairs"]:
    """How much each pair counts; sums to 1 in every run."""
    shape = (pairs.prompt.shape[0], runs.learning_rate.shape[0], -1)
    given = pairs.weight[:, None].expand(shape)
    if runs.weight is None:
        return given
    per_prompt = runs.weight.expand(*shape[:2], prompts)
    weight = given * per_prompt.gather(2, pairs.prompt[:, None].expand(shape))
    return weight / weight.sum(-1, keepdim=True)


def _batches(world: TabularWorld, pairs: TabularPairs, training: Training) -> Iterator[Int[Tensor, "seeds batch"]]:
    """Which pairs each step reads: every seed in an order of its own, no pair twice before all were read."""
    n = pairs.prompt.shape[1]
    seeds = len(world.seeds)
    if training.batch_pairs is None:
        while True:
            yield torch.arange(n).expand(seeds, n)
    generators = [np.random.default_rng([seed, BATCH_STREAM]) for seed in world.seeds]
    queue = np.empty((seeds, 0), dtype=np.int64)
    while True:
        while queue.shape[1] < training.batch_pairs:
            queue = np.concatenate([queue, np.stack([rng.permutation(n) for rng in generators])], axis=1)
        yield torch.from_numpy(queue[:, : training.batch_pairs])
        queue = queue[:, training.batch_pairs :]


def _logps(world: TabularWorld, at: Parameters, split: Split) -> Float[Tensor, "seeds configs prompts answers"]:
    shape = (world.settings.train_prompts, world.settings.answers)
    return policy_logps(world, at.shared, at.table.unflatten(-1, shape) if world.private > 0 else at.table, split)


def _scores(world: TabularWorld, at: Parameters, split: Split) -> Scores:
    return exact_scores(world, _logps(world, at, split), split)


def _each_prompt(checkpoints: list[Scores]) -> Scores:
    """Scores with the checkpoints before the prompts."""
    return _of_parts(checkpoints, partial(torch.stack, dim=2))


def _stacked(scored: list[list[Scores]]) -> Scores:
    """Scores with the splits first and the checkpoints last."""
    checkpoints = [_of_parts(by_split, torch.stack) for by_split in scored]
    return _of_parts(checkpoints, partial(torch.stack, dim=-1))


def _of_parts(scores: list[Scores], joined: Callable[[list[Tensor]], Tensor]) -> Scores:
    return Scores(
        reward=joined([one.reward for one in scores]),
        kl=joined([one.kl for one in scores]),
        win_rate=joined([one.win_rate for one in scores]),
    )
