"""Where the two regularisers of the perspective lead when nothing else stops them: longer and longer training.

Prompts share nothing and have two answers and endless pairs, so that what each prompt's labels carry is known, and with
it the closed form β* = 2ρβ₀/(log 2 − H(p)) of the quadratic regulariser.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from betahead.beta.perspective import Regulariser
from betahead.worlds.named import named_world
from betahead.worlds.tabular import TabularWorld, tabular_world
from betahead.worlds.tabular_learning import BOUNDS, PerspectiveBeta
from betahead.worlds.tabular_pairs import expected_pairs
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_training import train

WORLD = replace(named_world("separate_prompts"), train_prompts=40, eval_prompts=4, test_prompts=4, answers=2)
STEPS, LEARNING_RATE, RHO, START = 250, 0.05, 0.1, 0.1


@dataclass(frozen=True, kw_only=True)
class Rest:
    """A regulariser after a multiple of the steps.

    Args:
        topics: geometric mean β of each topic's prompts.
        at_bound: share of prompts whose β lies on a bound.
        away: median over prompts of |β/β* − 1|, β* the quadratic closed form in the bounds.
    """

    regulariser: Regulariser
    length: int
    topics: tuple[float, ...]
    at_bound: float
    away: float

    def line(self) -> str:
        """One line of the table, as Markdown."""
        topics = " / ".join(f"{value:.3g}" for value in self.topics)
        away = "—" if self.regulariser == "linear" else f"{self.away:.1%}"
        return f"| {self.regulariser} | ×{self.length} | {topics} | {self.at_bound:.0%} | {away} |"


HEAD = (
    "| regulariser | steps | β at 0 / 15 / 30 / 45 % noise | at a bound | from the closed form (median) |\n"
    "|---|---|---|---|---|"
)


def rest_rows(lengths: tuple[int, ...]) -> Iterator[Rest]:
    """Both regularisers after each multiple of the steps."""
    world = tabular_world(WORLD, [0])
    member = torch.nn.functional.one_hot(world.topic[: WORLD.train_prompts]).double()
    wanted = _closed_form(world)
    regularisers: tuple[Regulariser, ...] = ("linear", "quadratic")
    for regulariser in regularisers:
        for length in lengths:
            done = train(
                world,
                expected_pairs(world),
                Runs.with_beta([START], [LEARNING_RATE]),
                Training(steps=STEPS * length, schedule="linear"),
                PerspectiveBeta(learning_rate=LEARNING_RATE, regulariser=regulariser, rho=RHO),
            )
            log_beta = done.log_beta[0, 0]
            beta = log_beta.exp()
            yield Rest(
                regulariser=regulariser,
                length=length,
                topics=tuple((log_beta @ member / member.sum(0)).exp().tolist()),
                at_bound=float(((beta <= BOUNDS[0] * 1.001) | (beta >= BOUNDS[1] * 0.999)).double().mean()),
                away=float((beta / wanted - 1).abs().median()),
            )


def _closed_form(world: TabularWorld) -> Tensor:
    gold = world.gold[0, : WORLD.train_prompts]
    p = world.win_probability(gold[:, 0], gold[:, 1], world.topic[: WORLD.train_prompts])
    carried = math.log(2) + p * p.log() + (1 - p) * (1 - p).log()
    return (2 * RHO * START / carried).clamp(*BOUNDS)
