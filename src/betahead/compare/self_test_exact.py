"""A world of exact numbers: what every method is worth there is written down, so a protocol can be held to it.

A run is worth quality + gain + luck. The quality of a configuration depends on its learning rate, and a method may like
some configurations more than others do; the luck of a seed is shared by all methods, and each method has some of its
own, other at other learning rates and knobs.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from betahead.errors import ConfigError
from betahead.worlds.outcome import Axis, Outcome, WorldMethod

_SPLITS = {"eval": 1, "test": 2}
# By share of training: KL, and the part of a run's worth that its reward is. Gold counts half way in √KL between two
# checkpoints, where it is the whole worth, on a path that bends and ends lower: a reading elsewhere is another number.
_PATH = {0.0: (0.0, 0.0), 0.5: (1.0, 0.6), 0.75: (4.0, 1.4), 1.0: (9.0, 0.2)}
_KL = 2.25
_KNOB = Axis(name="knob", low=0.1, high=10.0)
# What a decade of learning rate away from the best one costs: far more than the luck of a run.
_STEEP = 10.0


@dataclass(frozen=True, kw_only=True)
class ExactMethod:
    """A method whose worth is known.

    Args:
        gain: in every run, on every prompt.
        own: SD of the luck that it shares with no other method.
        liking: SD over configurations of what one is worth to it alone, with whatever seed.
        prize: what a run wins besides, with the chance `chance`.
        taste: SD over prompts of what a prompt gives it; its mean over prompts at large is 0.
        knob: whether it has a knob that changes its luck and is worth nothing.
        diverges: whether its runs on test end in numbers that are not finite.
        parent: what it contains, for a claim about its mechanism.
        placebo: it without its information.
    """

    name: str
    gain: float = 0.0
    own: float = 1.0
    liking: float = 0.0
    prize: float = 0.0
    chance: float = 0.0
    taste: float = 0.0
    knob: bool = False
    diverges: bool = False
    parent: str | None = None
    placebo: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call that the world got."""

    method: str
    split: Literal["eval", "test"]
    seeds: tuple[int, ...]


class ExactWorld:
    """See the module.

    Args:
        name: of the cell; where it ends in `shared` all seeds are scored on the same twelve prompts, else on one each.
        table: the methods.
        draw: which prompts there are.
        common: SD of the luck that all methods share.
        best: logarithm to base 10 of the best learning rate, by split.
        level: of gold, by split.
        swing: what a decade of learning rate adds on dev with even seeds, and takes with odd ones.
    """

    def __init__(
        self,
        name: str,
        table: Sequence[ExactMethod],
        *,
        draw: int = 0,
        common: float = 5.0,
        best: Mapping[str, float] | None = None,
        level: Mapping[str, float] | None = None,
        swing: float = 0.0,
    ) -> None:
        self.name, self.draw, self.common, self.swing = name, draw, common, swing
        self.same_prompts = name.endswith("shared")
        self.prompts = 12 if self.same_prompts else 1
        self.best = best or {"eval": -1.5, "test": -1.5}
        self.level = level or {"eval": 0.0, "test": 0.0}
        self.asked: list[Asked] = []
        self._table = {method.name: method for method in table}

    def methods(self) -> Mapping[str, WorldMethod]:
        """What a plan may know of each."""
        return {
            name: WorldMethod(
                name=name,
                parent=one.parent,
                placebo=one.placebo,
                axes=(_KNOB,) if one.knob else (),
                summary="a method whose worth is known",
            )
            for name, one in self._table.items()
        }

    def kl_targets(self) -> tuple[float, ...]:
        """The one KL at which gold is what a run is worth."""
        return (_KL,)

    def fingerprint(self) -> Mapping[str, Any]:
        """All that a run depends on."""
        return {
            "methods": [asdict(one) for one in self._table.values()],
            "draw": self.draw,
            "common": self.common,
            "best": dict(self.best),
            "level": dict(self.level),
            "swing": self.swing,
        }

    def quality(self, learning_rate: float, split: Literal["eval", "test"]) -> float:
        """What a configuration is worth on a split without luck or gain."""
        return self.level[split] - _STEEP * (math.log10(learning_rate) - self.best[split]) ** 2

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        """Every configuration with every seed; nothing is trained.

        Raises:
            ConfigError: an unknown method.
        """
        if method not in self._table:
            raise ConfigError(f"`method` must be one of {', '.join(self._table)}, but is {method!r} instead.")
        self.asked.append(Asked(method=method, split=split, seeds=tuple(seeds)))
        one = self._table[method]
        quality = np.array(
            [self.quality(values["learning_rate"], split) + self._liking(one, values) for values in configurations]
        )
        angle = np.array([6.0 * math.log10(v["learning_rate"] * v.get("knob", 1.0) ** 0.5) for v in configurations])
        luck = np.stack([self._luck(one, seed, split, angle) for seed in seeds], axis=1)
        if split == "eval":
            decades = np.log10([values["learning_rate"] for values in configurations])
            luck = luck + self.swing * np.outer(decades, [1.0 - 2.0 * (seed % 2) for seed in seeds])
        tastes = one.taste * self._draws(one.name, self.draw, split).standard_normal(self.prompts)
        value = (quality[:, None] + luck)[..., None] + (tastes if self.same_prompts else 0.0)
        kl, part = np.array(list(_PATH.values())).T[..., None]
        reward = part * value[:, :, None, :]
        finite = not (one.diverges and split == "test")
        if not finite:
            reward[:, :, -1] = np.nan
        return Outcome(
            reward=reward,
            kl=np.broadcast_to(kl, reward.shape),
            win_rate=expit(reward),
            finite=np.full(reward.shape[:2], finite),
            checkpoints=tuple(_PATH),
            same_prompts=self.same_prompts,
            log_beta=None,
            seconds=0.0,
        )

    def _luck(self, one: ExactMethod, seed: int, split: str, angle: np.ndarray) -> Float[np.ndarray, " configs"]:
        """Of a seed for all configurations: each has the same spread, and near ones have nearly the same luck."""
        rng = self._draws(one.name, seed, split)
        across, along = rng.standard_normal(2)
        own = one.own * (across * np.cos(angle) + along * np.sin(angle))
        prize = one.prize * float(rng.random() < one.chance)
        shared = self.common * self._draws("", seed, split).standard_normal()
        return one.gain + prize + shared + own

    def _liking(self, one: ExactMethod, values: Mapping[str, float]) -> float:
        words = f"{self.name} {one.name} {sorted(values.items())}"
        digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
        return one.liking * float(np.random.default_rng(int.from_bytes(digest, "big")).standard_normal())

    def _draws(self, method: str, seed: int, split: str) -> np.random.Generator:
        digest = hashlib.blake2b(f"{self.name} {method}".encode(), digest_size=4).digest()
        return np.random.default_rng([seed, _SPLITS[split], int.from_bytes(digest, "big")])
