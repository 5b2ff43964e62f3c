"""A world in which everything has a closed form: one Gaussian action, quadratic gold, KL exact, learned in one line."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from betahead.errors import ConfigError
from betahead.worlds.outcome import Axis, Outcome, WorldMethod

CHECKPOINTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
_SPLITS = {"eval": 1, "test": 2}


class GaussianBandit:
    """Per prompt the action's mean μ moves from 0 towards 1: gold 1 − (μ − 1)², KL μ²/2, exact.

    A policy with β ends at the optimum of gold − β·KL, μ* = 2/(2 + β), after n gradient steps of a learning rate η (μ
    is then μ*·(1 − (1 − η)^n)); noise of a seed moves every prompt. `shifted` gains `gain` in gold wherever it has
    moved, and `matched:shifted`, a control that has all of its gain, does too; `copy` is `fixed` under another name;
    `unstable` diverges at large learning rates.
    """

    def __init__(
        self, name: str = "gaussian", *, gain: float = 0.05, prompts: int = 4, same_prompts: bool = False
    ) -> None:
        self.name = name
        self.gain = gain
        self.prompts = prompts
        self.same_prompts = same_prompts
        self.calls: list[tuple[Any, ...]] = []

    def methods(self) -> Mapping[str, WorldMethod]:
        def method(name: str, **fields: Any) -> WorldMethod:
            given = {"parent": "fixed", "placebo": None, "axes": (), "summary": name, **fields}
            return WorldMethod(name=name, **given)

        knob = Axis(name="knob", low=0.1, high=10.0)
        found = (
            method("fixed", parent=None),
            method("copy"),
            method("shifted", placebo="permuted:shifted", axes=(knob,)),
            method("permuted:shifted", axes=(knob,)),
            method("matched:shifted", axes=(knob,)),
            method("unstable"),
            method("oracle", needs_truth=True),
        )
        return {one.name: one for one in found}

    def kl_targets(self) -> tuple[float, ...]:
        return (0.02, 0.1)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"gain": self.gain, "prompts": self.prompts, "same_prompts": self.same_prompts}

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        if method not in self.methods():
            raise ConfigError(f"`method` must be one of {', '.join(self.methods())}, but is {method!r} instead.")
        self.calls.append((method, len(configurations), tuple(seeds), split))
        kl = np.stack([np.stack([self._mean(one, seed, split) for seed in seeds]) for one in configurations])
        mean, noise = kl, np.stack([self._noise(seed, split) for seed in seeds])[None, :, None, :]
        gold = 1.0 - (mean - 1.0) ** 2
        moved = np.minimum(np.abs(mean) / 0.1, 1.0)
        gold = gold + 0.02 * noise * moved
        if method in {"shifted", "matched:shifted", "oracle"}:
            gold = gold + self.gain * moved
        finite = np.ones(mean.shape[:2], dtype=bool)
        if method == "unstable":
            for row, one in enumerate(configurations):
                if one["learning_rate"] > 0.1:
                    finite[row] = False
                    gold[row, :, -2:] = np.nan
        return Outcome(
            reward=gold,
            kl=mean**2 / 2,
            win_rate=1.0 / (1.0 + np.exp(-gold)),
            finite=finite,
            checkpoints=CHECKPOINTS,
            same_prompts=self.same_prompts,
            log_beta=np.stack([np.full((len(seeds), 2), np.log(one["beta"])) for one in configurations]),
            seconds=0.01,
        )

    def _mean(self, configuration: Mapping[str, float], seed: int, split: str) -> np.ndarray:
        steps = 100 * np.array(CHECKPOINTS)
        reached = 1.0 - (1.0 - min(configuration["learning_rate"], 0.9)) ** steps
        spread = 1.0 + 0.05 * np.random.default_rng([seed, 9]).standard_normal(self.prompts)
        return 2.0 / (2.0 + configuration["beta"]) * np.outer(reached, spread)

    def _noise(self, seed: int, split: str) -> np.ndarray:
        rng = np.random.default_rng([seed, _SPLITS[split]])
        return rng.standard_normal() + rng.standard_normal(self.prompts)


PLAN = """\
name: small
question: Is shifted better than fixed?
cells: [bandit/one]
methods:
  fixed: {}
  shifted: {space: {knob: {low: 0.5, high: 2.0}}}
axes:
  learning_rate: {low: 0.01, high: 0.3}
  beta: {low: 0.1, high: 2.0}
pool: {configurations: 8, trials: 4, seeds: 2}
finals: {seeds: 8}
rope: 0.01
comparisons:
  - {a: shifted, b: fixed}
"""


def bandit_of(cell: str) -> GaussianBandit:
    """The worlds of the tests, by cell."""
    return GaussianBandit(cell, same_prompts=cell.endswith("/shared"))
