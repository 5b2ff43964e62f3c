"""The ways of learning β in a contextual bandit: labels of 0, 15, 30 and 45 % noise, exact reward and KL.

Every prompt has one pair and a log β of its own, so that a prompt whose label was turned round can be told from one
whose label is honest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from betahead.worlds.named import named_world
from betahead.worlds.tabular import TabularWorld, tabular_world
from betahead.worlds.tabular_budget import BudgetBeta
from betahead.worlds.tabular_heldout import HeldoutBeta
from betahead.worlds.tabular_learning import BetaLearning, HeldBeta, JointBeta, PerspectiveBeta
from betahead.worlds.tabular_pairs import TabularPairs, sampled_pairs
from betahead.worlds.tabular_runs import Runs, Trained, Training
from betahead.worlds.tabular_training import train

WORLD = replace(named_world("few_pairs"), train_prompts=400)
STEPS, BATCH, LEARNING_RATE = 100, 64, 0.02
STARTS = (0.1, 1.0)

MODES: Mapping[str, BetaLearning] = MappingProxyType(
    {
        "fixed": HeldBeta(),
        "joint, no prior": JointBeta(learning_rate=0.02, prior_weight=0.0),
        "joint": JointBeta(learning_rate=0.02),
        "perspective, linear": PerspectiveBeta(learning_rate=0.02, regulariser="linear"),
        "perspective, quadratic": PerspectiveBeta(learning_rate=0.02),
        "budget of 0.3 nats": BudgetBeta(target_kl=0.3, allocation=PerspectiveBeta(learning_rate=0.02)),
        "held-out, per topic": HeldoutBeta(learning_rate=0.02),
    }
)
"""One row a way of learning; whatever is put here is in the table."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way of learning from one initial β, after a multiple of the steps.

    Args:
        topics: geometric mean β of each topic's train prompts.
        turned: that of prompts whose label noise turned round, over that of the others in the same topics.
        at_bound: share of prompts whose β lies on a bound of 0.001 to 30, or of a tenth to ten times where it started.
        kl: to the reference on train prompts, nats.
        reward: mean gold on test prompts; 0 is the reference's.
    """

    mode: str
    start: float
    length: int
    topics: tuple[float, ...]
    turned: float
    at_bound: float
    kl: float
    reward: float

    def line(self) -> str:
        """One line of the table, as Markdown."""
        topics = " / ".join(f"{value:.3g}" for value in self.topics)
        return (
            f"| {self.mode} | {self.start:g} | ×{self.length} | {topics} | {self.turned:.2f} | "
            f"{self.at_bound:.0%} | {self.kl:.3f} | {self.reward:.3f} |"
        )


HEAD = (
    "| learning | from β | steps | β at 0 / 15 / 30 / 45 % noise | β turned : honest | at a bound | KL, nats | gold |\n"
    "|---|---|---|---|---|---|---|---|"
)


def bandit_rows(lengths: tuple[int, ...], seeds: int) -> Iterator[Row]:
    """Every way of learning from every initial β, after each multiple of the steps, means over seeds."""
    world = tabular_world(WORLD, range(seeds))
    pairs = sampled_pairs(world)
    runs = Runs.with_beta(STARTS, [LEARNING_RATE] * len(STARTS))
    for mode, learning in MODES.items():
        done = [
            train(world, pairs, runs, Training(steps=STEPS * length, batch_pairs=BATCH), learning) for length in lengths
        ]
        for config, start in enumerate(STARTS):
            for length, trained in zip(lengths, done, strict=True):
                yield _row(world, pairs, trained, mode, config, start, length)


def _row(
    world: TabularWorld, pairs: TabularPairs, trained: Trained, mode: str, config: int, start: float, length: int
) -> Row:
    log_beta = trained.log_beta[:, config]
    member = torch.nn.functional.one_hot(world.topic[: WORLD.train_prompts]).double()
    test, here = trained.on("test"), trained.on("train")
    return Row(
        mode=mode,
        start=start,
        length=length,
        topics=tuple((log_beta @ member / member.sum(0)).mean(0).exp().tolist()),
        turned=_turned(log_beta, pairs, member),
        at_bound=_at_bound(log_beta, mode, start),
        kl=float(here.kl[:, config, -1].mean()),
        reward=float(test.reward[:, config, -1].mean()),
    )


def _turned(log_beta: Tensor, pairs: TabularPairs, member: Tensor) -> float:
    """The ratio of geometric means, within topics that have both kinds of labels."""
    flipped = pairs.flipped.double()
    both = [(log_beta * kind) @ member / (kind @ member).clamp(min=1) for kind in (flipped, 1 - flipped)]
    noisy = (flipped @ member) > 0
    return float((both[0] - both[1])[noisy].mean().exp())


def _at_bound(log_beta: Tensor, mode: str, start: float) -> float:
    low, high = (start / 10, start * 10) if mode.startswith("joint") else (1e-3, 30.0)
    beta = log_beta.exp()
    return float(((beta <= low * 1.001) | (beta >= high * 0.999)).double().mean())
