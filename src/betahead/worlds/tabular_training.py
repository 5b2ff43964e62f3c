"""Train thousands of tabular policies at once: seeds × configurations, exact reward and KL along the way.

A step costs one matrix product each way, because the margin of a pair is linear in the policy's parameters:
h = (φ(x, y_w) − φ(x, y_l))·θ + private·(table[x, y_w] − table[x, y_l]); the normaliser
cancels. The loss is the package's own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from betahead.losses.preference import preference_loss
from betahead.worlds.tabular import BATCH_STREAM, Scores, TabularWorld, exact_scores, mean_scores
from betahead.worlds.tabular_descent import AdamW, Descent, PlainDescent
from betahead.worlds.tabular_learning import BetaLearning, HeldBeta, groups_of
from betahead.worlds.tabular_pairs import TabularPairs
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
    learning: BetaLearning | None = None,
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
    learning: BetaLearning,
    splits: tuple[Split, ...],
    by_prompt: bool,
    measuring: Measuring | None,
) -> Trained:
    seeds, configs = len(world.seeds), runs.learning_rate.shape[0]
    prompts, answers = world.settings.train_prompts, world.settings.answers
    rate = runs.learning_rate[None, :, None]
    shared = torch.zeros(seeds, configs, world.features.shape[-1], dtype=torch.float64)
    table = torch.zeros(seeds, configs, prompts * answers if world.private > 0 else 0, dtype=torch.float64)
    movers: list[Descent] = [_descent(training, part, rate) for part in (shared, table)]
    beta = _Beta(world, runs, learning, training)
    weight = _pair_weights(pairs, runs, prompts)

    unused = torch.zeros(seeds, configs, prompts, answers, dtype=torch.float64)

    def own(flat: Tensor) -> Float[Tensor, "seeds configs prompts answers"]:
        return flat.unflatten(-1, (prompts, answers)) if world.private > 0 else unused

    scored: list[list[Scores]] = []
    measured: list[Mapping[str, np.ndarray]] = []
    batches = _batches(world, pairs, training)
    for step in range(training.steps + 1):
        if step in training.scored_steps:
            scored.append(
                [exact_scores(world, policy_logps(world, shared, own(table), split), split) for split in splits]
            )
            if measuring is not None:
                measured.append(measuring(Moment(shared, own(table), beta.seen)))
        if step == training.steps:
            break
        at = next(batches)
        prompt, chosen, rejected = (part.gather(1, at) for part in (pairs.prompt, pairs.chosen, pairs.rejected))
        now = weight.gather(2, at[:, None].expand(-1, configs, -1)) * (pairs.prompt.shape[1] / at.shape[1])
        lines = torch.arange(seeds)[:, None]
        difference = world.features[lines, prompt, chosen] - world.features[lines, prompt, rejected]
        margin = shared @ difference.transpose(1, 2)
        won = (prompt * answers + chosen)[:, None].expand(-1, configs, -1)
        lost = (prompt * answers + rejected)[:, None].expand(-1, configs, -1)
        if world.private > 0:
            margin = margin + world.private * (table.gather(2, won) - table.gather(2, lost))
        share = 1.0 - step / training.steps if training.schedule == "linear" else 1.0
        push = beta.push(margin, prompt[:, None].expand(-1, configs, -1), now, share)
        gradients = [push @ difference, torch.zeros_like(table)]
        if world.private > 0:
            gradients[1].scatter_add_(2, won, world.private * push).scatter_add_(2, lost, -world.private * push)
        for mover, gradient in zip(movers, gradients, strict=True):
            mover.step(gradient, share)

    return Trained(
        scores=_stacked([[mean_scores(scores) for scores in by_split] for by_split in scored]),
        shared=shared,
        table=own(table),
        log_beta=beta.acting,
        splits=splits,
        by_prompt=_each_prompt([by_split[0] for by_split in scored]) if by_prompt else None,
        measured={name: np.stack([each[name] for each in measured], axis=-1) for name in (measured or [{}])[0]},
    )


class _Beta:
    """β of a stack of runs: where it starts, what is learned of it, and what it does to the policy's gradient."""

    def __init__(self, world: TabularWorld, runs: Runs, learning: BetaLearning, training: Training) -> None:
        shape = (len(world.seeds), runs.learning_rate.shape[0], world.settings.train_prompts)
        self.level = runs.log_beta.expand(shape)
        self.start = self.level if runs.lean is None else self.level + runs.lean
        self.course = learning.begin(world, shape[1])
        self.mover: Descent | None = None
        if self.course.per is not None:
            self.group = groups_of(world, self.course.per)
            self.offset = torch.zeros(*shape[:2], int(self.group.max()) + 1, dtype=torch.float64)
            rate = self.course.learning_rate
            rate = rate[None, :, None] if isinstance(rate, Tensor) else rate
            self.mover = _descent(replace(training, weight_decay=0.0), self.offset, rate)

    @property
    def acting(self) -> Float[Tensor, "seeds configs prompts"]:
        """log β of every prompt as the policy sees it."""
        return self.course.acting(self._log_beta(None if self.mover is None else self.offset))

    @property
    def seen(self) -> Float[Tensor, "seeds configs prompts"]:
        """The same for somebody who only looks: what the course draws from is left as it was."""
        return deepcopy(self.course).acting(self._log_beta(None if self.mover is None else self.offset))

    def push(self, margin: Tensor, where: Tensor, weight: Tensor, share: float) -> Float[Tensor, "seeds configs pairs"]:
        """The derivative of the loss by the margins; what is learned of β takes its own step along the way."""
        margin, still = margin.detach().requires_grad_(), margin.detach()
        offset = None if self.mover is None else self.offset.detach().requires_grad_()
        log_beta = self._log_beta(offset)
        acting = self.course.acting(log_beta)
        total = (weight * self._losses(margin, still, acting, where)).sum()
        if self.mover is None or offset is None:
            return torch.autograd.grad(total, margin)[0]
        if acting is not log_beta:
            # The rule that is controlled for learns from its own β, and the policy does not feel it.
            total = total + (weight * self._losses(still, still, log_beta, where)).sum()
        by_margin, by_offset = torch.autograd.grad(total, (margin, offset))
        self.mover.step(by_offset, share)
        return by_margin

    def _log_beta(self, offset: Tensor | None) -> Tensor:
        moved = self.start if offset is None else self.start + offset[..., self.group]
        return self.course.held(moved, self.level)

    def _losses(self, margin: Tensor, still: Tensor, log_beta: Tensor, where: Tensor) -> Tensor:
        shaping = self.course.shaping(log_beta.gather(2, where), self.level.gather(2, where), still)
        return preference_loss(margin.flatten(), shaping).view(margin.shape)


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


def _descent(training: Training, parameter: Tensor, learning_rate: Tensor | float) -> Descent:
    kind = AdamW if training.optimizer == "adamw" else PlainDescent
    return kind(parameter, learning_rate, training.weight_decay)


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
