"""What the self-test measures in tabular worlds: gold of runs, the closed form, and policies that must lose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.compare.judged import differences
from betahead.compare.plan import load_plan
from betahead.compare.resolved import Test, resolve
from betahead.compare.score import scores_of
from betahead.compare.verdict import Rules, Verdict, decide
from betahead.compare.work import worked_alone
from betahead.worlds.named import named_world
from betahead.worlds.outcome import MethodWorld, Outcome
from betahead.worlds.tabular import TabularWorld, best_logps, exact_scores, tabular_world
from betahead.worlds.tabular_methods import tabular_method_world
from betahead.worlds.tabular_pairs import sampled_pairs, shuffled_labels
from betahead.worlds.tabular_runs import COMPARED, Runs
from betahead.worlds.tabular_training import train
from betahead.worlds.world import Split

ROPE = 0.01

_HEADROOM_PLAN = """
name: headroom
question: Is there anything to win, and is it seen?
cells: [tabular/WORLD]
methods: {fixed: {}, oracle: {}, weight_oracle: {}, clean_labels: {}, renamed: {}}
axes:
  learning_rate: {low: 0.01, high: 0.3}
  beta: {low: 0.03, high: 1.0}
pool: {configurations: CONFIGURATIONS, trials: CONFIGURATIONS, seeds: 3}
finals: {seeds: FINALS}
rope: 0.01
comparisons:
  - {a: oracle, b: fixed, claim: bound}
  - {a: weight_oracle, b: fixed, claim: bound}
  - {a: clean_labels, b: fixed, claim: bound}
  - {a: renamed, b: fixed}
"""


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """What a method that reads the truth wins over tuned fixed β, and what the verdict makes of it."""

    method: str
    headroom: float
    due: bool
    verdict: Verdict


def gold_of(
    world: MethodWorld, method: str, configuration: Mapping[str, float], seeds: Sequence[int]
) -> Float[np.ndarray, " seeds"]:
    """Gold at matched KL of one configuration with each seed, on test."""
    targets = world.kl_targets()
    scores = scores_of(world.run(method, [configuration], seeds, split="test"), targets, ())
    return np.mean([scores.values[f"gold_at_kl_{i}"][:, 0] for i in range(len(targets))], axis=0)


def headrooms(world: str, configurations: int, finals: int) -> list[Headroom]:
    """Oracle, weight oracle, clean labels and a renamed copy against fixed β: one plan, all its rules.

    A verdict is due where the difference is so large that so many finals would find it, and the ROPE is exceeded twice.
    """
    text = _HEADROOM_PLAN.replace("WORLD", world)
    text = text.replace("CONFIGURATIONS", str(configurations)).replace("FINALS", str(finals))
    resolved = resolve(load_plan(text), lambda cell: tabular_method_world(cell.partition("/")[2]))
    finished = worked_alone(resolved)
    cell = resolved.plan.cells[0]
    tests = [Test(a=one.a, b=one.b) for one in resolved.plan.comparisons]
    measured = [differences(finished, cell, test, "gold_at_matched_kl") for test in tests]
    decisions = decide([measured], Rules(rope=ROPE, family=resolved.family))[0]
    return [
        Headroom(
            method=test.a,
            headroom=its.effect.estimate,
            due=its.effect.estimate >= max(2.0 * ROPE, its.minimum_detectable_effect),
            verdict=its.verdict,
        )
        for test, its in zip(tests, decisions, strict=True)
    ]


def shuffled_gain(world: str, configuration: Mapping[str, float], seeds: Sequence[int]) -> tuple[float, float]:
    """What training on labels drawn by a fair coin adds to gold over the reference, and its standard error."""
    tabular = tabular_world(named_world(world), seeds)
    runs = Runs.with_beta([configuration["beta"]], [configuration["learning_rate"]])
    trained = train(tabular, shuffled_labels(tabular, sampled_pairs(tabular)), runs, COMPARED)
    reward = trained.on("test").reward[:, 0, :]
    gain = reward[:, -1] - reward[:, 0]
    return float(gain.mean()), float(gain.std() / len(gain) ** 0.5)


def beyond_closed_form(world: str, configuration: Mapping[str, float], seeds: Sequence[int]) -> float:
    """By how much any checkpoint of a run lies beyond the frontier of π* ∝ π_ref·exp(r/β); at most 0 up to rounding.

    No policy has more reward − β·KL than π*_β, whatever β: a bound at each β that needs no interpolation.
    """
    tabular = tabular_world(named_world(world), seeds)
    outcome = tabular_method_world(world).run("fixed", [configuration], seeds, split="test")
    reward, kl = outcome.reward[0].mean(-1), outcome.kl[0].mean(-1)
    excess = -np.inf
    for beta in np.geomspace(0.01, 10.0, 13):
        best = exact_scores(tabular, best_logps(tabular, _level(tabular, float(beta)), "test"), "test")
        bound = (best.reward - float(beta) * best.kl).mean(-1).numpy()
        excess = max(excess, float(np.max(reward - beta * kl - bound)))
    return excess


def constant_answer(world: str, seeds: Sequence[int]) -> Outcome:
    """A policy that moves from the reference to giving the first answer to every prompt, as an outcome on test."""
    tabular = tabular_world(named_world(world), seeds)
    here = tabular.splits["test"]
    reference = tabular.ref_logps[:, None, here].exp()
    first = torch.zeros_like(reference)
    first[..., 0] = 1.0
    shares = tuple(float(share) for share in np.linspace(0.0, 1.0, 21))
    scored = [exact_scores(tabular, ((1.0 - share) * reference + share * first).log(), "test") for share in shares]
    return Outcome(
        reward=_stacked([one.reward for one in scored]),
        kl=_stacked([one.kl for one in scored]),
        win_rate=_stacked([one.win_rate for one in scored]),
        finite=np.ones((1, len(seeds)), dtype=bool),
        checkpoints=shares,
        same_prompts=False,
        log_beta=None,
        seconds=0.0,
    )


def _level(world: TabularWorld, beta: float) -> Tensor:
    split: Split = "test"
    return torch.full((1, 1, world.topic[world.splits[split]].shape[0]), beta, dtype=torch.float64)


def _stacked(parts: Sequence[Tensor]) -> Float[np.ndarray, "configs seeds checkpoints prompts"]:
    """(seeds, 1, prompts) of each checkpoint as one configuration's outcome."""
    return torch.stack([part[:, 0] for part in parts], dim=1)[None].numpy()
