"""What the self-test measures in tabular worlds: gold of runs, the closed form, and policies that must lose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.compare.judged import judge
from betahead.compare.plan import Claim, Plan
from betahead.compare.reach import sds_for_better
from betahead.compare.resolved import ResolvedPlan, Test, resolve
from betahead.compare.rules import Verdict
from betahead.compare.score import scores_of
from betahead.compare.work import worked_alone
from betahead.worlds.named import named_world
from betahead.worlds.outcome import MethodWorld, Outcome, WorldMethod
from betahead.worlds.tabular import TabularWorld, best_logps, exact_scores, tabular_world
from betahead.worlds.tabular_methods import tabular_method_world
from betahead.worlds.tabular_oracles import recorded
from betahead.worlds.tabular_pairs import sampled_pairs, shuffled_labels
from betahead.worlds.tabular_runs import COMPARED, Runs
from betahead.worlds.tabular_training import train
from betahead.worlds.world import Split

ROPE = 0.01

MUST_WIN = ("half_noise", "frequent_noise", "adversarial_topic")
"""Worlds that exist because there is much to win: both oracles have headroom there, and must be seen to."""

# Of all labels: where so many are turned, labels without noise are worth more than the ROPE.
_NOISY = 0.1
_OWN_SEEDS = 5_000_000

_AXES = {"learning_rate": {"low": 0.01, "high": 0.3}, "beta": {"low": 0.03, "high": 1.0}}
_BOUNDS = (
    ("oracle", "fixed"),
    ("oracle", "permuted:oracle"),
    ("weight_oracle", "fixed"),
    ("clean_labels", "fixed"),
)


@dataclass(frozen=True, kw_only=True)
class OnTruth:
    """What the protocol says of two methods in a world whose truth is known, and whether A must be called better."""

    a: str
    b: str
    effect: float
    due: bool
    verdict: Verdict


class _OwnSeeds:
    """A tabular world in which `renamed` tunes and ends on seeds of its own: fixed β with other luck."""

    def __init__(self, inner: MethodWorld) -> None:
        self._inner = inner
        self.name = inner.name

    def methods(self) -> Mapping[str, WorldMethod]:
        return self._inner.methods()

    def kl_targets(self) -> tuple[float, ...]:
        return self._inner.kl_targets()

    def fingerprint(self) -> Mapping[str, Any]:
        return {**self._inner.fingerprint(), "own_seeds": _OWN_SEEDS}

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        own = [seed + _OWN_SEEDS for seed in seeds] if method == "renamed" else seeds
        return self._inner.run(method, configurations, own, split=split)


def recorded_headroom(world: str, oracle: Literal["oracle", "weight_oracle"]) -> tuple[float, ...]:
    """What an oracle wins over tuned fixed β at each KL of the world, on seeds that its search did not see.

    A KL that no configuration of fixed β reaches has none.
    """
    return tuple(0.0 if mean is None else mean for mean, _ in recorded()[world][f"{oracle}_gain"])


def verdicts_on_truth(world: str, configurations: int, finals: int) -> list[OnTruth]:
    """Oracles, the placebo of one, and clean labels: one plan, with all its rules.

    What is due is known before anything is run: from the headroom on record, and from the noise of the labels. Tests
    of which nobody can know are left out.
    """
    resolved = _resolved(world, _BOUNDS, "bound", configurations, finals, seed=0)
    found: list[OnTruth] = []
    for (test, _), its in judge(worked_alone(resolved)).decisions.items():
        due = _due(world, test, resolved)
        if due is not None:
            found.append(OnTruth(a=test.a, b=test.b, effect=its.effect.estimate, due=due, verdict=its.verdict))
    return found


def verdict_on_copy(world: str, configurations: int, finals: int, seed: int) -> Verdict:
    """What is said of fixed β under another name, whose searches and finals have luck of their own."""
    resolved = _resolved(world, [("renamed", "fixed")], "better", configurations, finals, seed=seed)
    (decision,) = judge(worked_alone(resolved)).decisions.values()
    return decision.verdict


def _resolved(
    world: str, pairs: Sequence[tuple[str, str]], claim: Claim, configurations: int, finals: int, *, seed: int
) -> ResolvedPlan:
    plan = Plan.model_validate(
        {
            "name": "truth",
            "question": "Is what there is to win seen, and nothing else?",
            "seed": seed,
            "cells": [f"tabular/{world}"],
            "methods": {name: {} for pair in pairs for name in pair},
            "axes": _AXES,
            "pool": {"configurations": configurations, "trials": configurations, "seeds": 3},
            "finals": {"seeds": finals},
            "rope": ROPE,
            "comparisons": [{"a": a, "b": b, "claim": claim} for a, b in pairs],
        }
    )
    return resolve(plan, lambda cell: _OwnSeeds(tabular_method_world(cell.partition("/")[2])))


def _due(world: str, test: Test, resolved: ResolvedPlan) -> bool | None:
    """Whether A must be called better, or must not be; None where nobody can know."""
    if test.a == "clean_labels":
        topics = named_world(world).topics
        noise = sum(one.share * one.label_noise for one in topics) / sum(one.share for one in topics)
        return False if noise == 0.0 else (noise >= _NOISY or None)
    if world in MUST_WIN:
        return True
    oracle = "oracle" if test.a == "oracle" else "weight_oracle"
    if test.b != "fixed" or min(recorded_headroom(world, oracle)) < ROPE:
        return None
    # So many finals must be able to find a gain of that size, as far as the seeds of the record spread.
    gain, error = np.mean(recorded()[world][f"{oracle}_gain"], axis=0)
    spread = error * len(recorded()[world]["search"]["fresh_seeds"]) ** 0.5
    finals, alpha = resolved.plan.finals.seeds, resolved.plan.alpha
    return bool(gain >= spread * sds_for_better(finals, alpha=alpha, family=resolved.family)) or None


def gold_of(
    world: MethodWorld, method: str, configuration: Mapping[str, float], seeds: Sequence[int]
) -> Float[np.ndarray, " seeds"]:
    """Gold at matched KL of one configuration with each seed, on test."""
    targets = world.kl_targets()
    scores = scores_of(world.run(method, [configuration], seeds, split="test"), targets, ())
    return np.mean([scores.values[f"gold_at_kl_{i}"][:, 0] for i in range(len(targets))], axis=0)


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
