"""The budget that a trainer uses, driven in tabular worlds: the KL that the policy ends with is the one that was said.

What runs is `BudgetLearning` with its `DualAscent`, one for every run of a stack, told the exact KL in place of an
estimate: every `kl_every` steps, or at every step in the form of answers that have moved as far.
"""

import math

import pytest
import torch
from torch import Tensor

from betahead.beta.budget import BudgetLearning
from betahead.beta.learning_kinds import learning_named
from betahead.types import PairReading, Shaping
from betahead.worlds.named import named_world
from betahead.worlds.tabular import TabularWorld, tabular_world
from betahead.worlds.tabular_learning import BetaCourse, BetaLearning, PerPair, PerPrompt, PerRun, within
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_training import train

STARTS = (0.03, 0.1, 0.3, 1.0, 3.0)
BOUNDS = (1e-3, 30.0)
TRAINING = Training(batch_pairs=64, steps=200, checkpoints=(1.0,))
# In 200 steps a level is to come down a hundredfold, and then to rise as long as they last.
QUICK = {"level_rate": 0.3, "kl_every": 1}


def answers(kl: float) -> PairReading:
    """A pair both of whose answers the policy has moved away from by so much."""
    one, zero = torch.full((1,), -kl, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    tokens = torch.ones(1, dtype=torch.long)
    return PairReading(
        chosen_logps=one,
        rejected_logps=one,
        reference_chosen_logps=zero,
        reference_rejected_logps=zero,
        chosen_tokens=tokens,
        rejected_tokens=tokens,
    )


class Shipped(BetaLearning):
    """A budget of the beta layer for every run."""

    def __init__(self, target_kl: float, *, noise: float = 0.0, **said: object) -> None:
        self.noise = noise
        self.said = {"kind": "budget", "target_kl": target_kl, **said}

    def begin(self, world: TabularWorld, configs: int) -> BetaCourse:
        return Driven(self.said, len(world.seeds), configs, self.noise)

    def configs(self, chosen: slice) -> "Shipped":
        return self


class Driven(BetaCourse):
    """What the trainer calls of a rule, in its order."""

    reads_kl = True

    def __init__(self, said: dict[str, object], seeds: int, configs: int, noise: float) -> None:
        self.noise, self.rng = noise, torch.Generator().manual_seed(0)
        modes = [[learning_named(said).double() for _ in range(configs)] for _ in range(seeds)]
        self.modes = [[mode for mode in row if isinstance(mode, BudgetLearning)] for row in modes]
        self.per, self.learning_rate = ("topic", 0.01) if self.modes[0][0].trains else (None, 0.0)
        self.start: PerPrompt | None = None
        self.steps = 0

    def next_level(self, level: PerPrompt, kl: PerRun) -> PerPrompt:
        if self.start is None:
            self.start = level.clone()
        shifts = torch.zeros_like(kl)
        for (seed, config), beta in self._betas():
            mode, nats = self.modes[seed][config], float(kl[seed, config])
            limits = (math.log(BOUNDS[0] / beta), math.log(BOUNDS[1] / beta))
            if self.steps:
                if mode.reads_answers:
                    mode.answers_seen(answers(nats))
                mode.step_taken(lambda t: t, limits)
                if mode.kl_sampling is not None and self.steps % mode.kl_sampling.every == 0:
                    mode.kl_measured(nats * (1.0 + self.noise * torch.randn((), generator=self.rng).item()), limits)
            shifts[seed, config] = mode.log_shift()
        self.steps += 1
        return self.start + shifts[..., None]

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        return within(BOUNDS, log_beta)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        for (seed, config), _ in self._betas():
            self.modes[seed][config].ratios_seen((log_beta - level)[seed, config])
        made = [
            self.modes[seed][config].shaping(log_beta[seed, config].exp(), self.modes[seed][config].base(beta))
            for (seed, config), beta in self._betas()
        ]
        return Shaping(**{name: torch.cat([vars(one)[name] for one in made]) for name in vars(made[0])})

    def _betas(self) -> list[tuple[tuple[int, int], float]]:
        """β₀ of every run, by place."""
        assert self.start is not None
        first: Tensor = self.start[..., 0].exp()
        return [((s, c), float(first[s, c])) for s in range(len(self.modes)) for c in range(len(self.modes[0]))]


def reached(name: str, target: float, rate: float, *, noise: float = 0.0, **said: object) -> Tensor:
    """The KL at the end of a training, over its target."""
    world = tabular_world(named_world(name), [0])
    runs = Runs.with_beta(STARTS, [rate] * len(STARTS))
    done = train(world, sampled_pairs(world), runs, TRAINING, Shipped(target, noise=noise, **said), splits=["train"])
    return done.on("train").kl[..., -1] / target


WORLDS = [
    "half_noise",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("uniform", "reward_scales", "few_pairs", "many_pairs", "frequent_noise")
    ),
]


@pytest.mark.parametrize("name", WORLDS)
def test_its_budget_is_reached_from_every_initial_beta(name: str) -> None:
    for target, rate in ((0.3, 0.03), (1.0, 0.1)):
        found = reached(name, target, rate, **QUICK)
        assert ((found - 1).abs() < 0.1).all(), found


@pytest.mark.parametrize("name", WORLDS)
def test_its_defaults_end_within_a_tenth_of_the_budget_where_estimates_are_exact(name: str) -> None:
    for target, rate in ((0.3, 0.03), (1.0, 0.1)):
        found = reached(name, target, rate)
        assert ((found - 1).abs() < 0.1).all(), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "low", "high"), [("half_noise", 0.85, 1.2), ("uniform", 0.85, 1.55), ("few_pairs", 1.0, 1.55)]
)
def test_noise_of_a_fifth_on_every_estimate_moves_the_end_by_no_more_than_was_said(
    name: str, low: float, high: float
) -> None:
    for target, rate in ((0.3, 0.03), (1.0, 0.1)):
        found = reached(name, target, rate, noise=0.2)
        assert ((found > low) & (found < high)).all(), found


@pytest.mark.parametrize(
    ("kl_from", "allocation"),
    [
        ("samples", "joint"),
        ("answers", "perspective"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("samples", "none"), ("answers", "none"), ("answers", "joint"))
        ),
    ],
)
def test_whatever_allocates_and_however_it_is_told_the_budget_is_the_same(kl_from: str, allocation: str) -> None:
    said = {"kl_from": kl_from, "allocation": allocation} | (QUICK if kl_from == "samples" else {"level_rate": 0.3})
    found = reached("half_noise", 1.0, 0.1, **said)
    assert ((found - 1).abs() < 0.1).all(), found
