"""What is trained in a tabular world, how, and what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from betahead.errors import ConfigError
from betahead.worlds.tabular import Scores
from betahead.worlds.world import Split

SCORED: tuple[Split, ...] = ("train", "eval", "test")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all configurations of a call share.

    Args:
        steps: at least 1.
        optimizer: `adamw`, or plain gradient descent (`gd`).
        batch_pairs: pairs of a step, drawn epoch by epoch in the same order for all configurations; None is all pairs.
        weight_decay: decoupled, towards the reference; ≥ 0.
        schedule: of the learning rates: `constant`, or `linear` to zero.
        rate: factor on all learning rates; > 0.
        checkpoints: shares of the steps after which policies are scored, rising, in (0, 1]; the start is scored too.
    """

    steps: int = 100
    optimizer: Literal["adamw", "gd"] = "adamw"
    batch_pairs: int | None = None
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear"] = "constant"
    rate: float = 1.0
    checkpoints: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: names the field and the value.
        """
        if self.steps < 1:
            raise ConfigError(f"`steps` must be at least 1, but is {self.steps} instead.")
        if self.batch_pairs is not None and self.batch_pairs < 1:
            raise ConfigError(f"`batch_pairs` must be at least 1 or None for all, but is {self.batch_pairs} instead.")
        if not self.weight_decay >= 0:
            raise ConfigError(f"`weight_decay` must be at least 0, but is {self.weight_decay} instead.")
        if not self.rate > 0:
            raise ConfigError(f"`rate` must be above 0, but is {self.rate} instead.")
        rising = list(self.checkpoints) == sorted(set(self.checkpoints))
        if not self.checkpoints or not rising or not 0 < self.checkpoints[0] <= self.checkpoints[-1] <= 1:
            raise ConfigError(
                f"`checkpoints` must be rising shares of the steps in (0, 1], but are {self.checkpoints} instead."
            )

    @property
    def scored_steps(self) -> list[int]:
        """The steps after which policies are scored, 0 (the reference) first; few steps may make shares coincide."""
        return sorted({0, *(max(1, round(share * self.steps)) for share in self.checkpoints)})


COMPARED = Training(batch_pairs=64)
"""How policies are trained where methods are compared, oracles included."""


@dataclass(frozen=True, eq=False)
class Runs:
    """The configurations to train in every seed's world.

    Args:
        log_beta: where log β of every train prompt starts, which rules take as their log β₀; the axes of seeds and
            prompts may be 1.
        learning_rate: of the policy.
        weight: how much a prompt's pairs count, e.g. 0 for pairs that are dropped; axes of 1 as in `log_beta`. Weights
            are scaled so that a seed's pairs count as much as before.
        lean: what is added to log β of a prompt, beyond log β₀; axes of 1 as in `log_beta`.
    """

    log_beta: Float[Tensor, "seeds configs prompts"]
    learning_rate: Float[Tensor, " configs"]
    weight: Float[Tensor, "seeds configs prompts"] | None = None
    lean: Float[Tensor, "seeds configs prompts"] | None = None

    @classmethod
    def with_beta(cls, beta: Sequence[float], learning_rate: Sequence[float]) -> "Runs":
        """One configuration for every β and learning rate, paired.

        Raises:
            ConfigError: a number is not above 0, or the two lists differ in length.
        """
        if len(beta) != len(learning_rate) or not all(value > 0 for value in (*beta, *learning_rate)):
            raise ConfigError(
                "`beta` and `learning_rate` must be equally many numbers above 0, but are "
                f"{list(beta)} and {list(learning_rate)} instead."
            )
        levels = torch.tensor(list(beta), dtype=torch.float64)
        return cls(levels.log()[None, :, None], torch.tensor(list(learning_rate), dtype=torch.float64))

    def configs(self, chosen: slice) -> "Runs":
        """Some of the configurations."""
        weight, lean = (None if given is None else given[:, chosen] for given in (self.weight, self.lean))
        return Runs(self.log_beta[:, chosen], self.learning_rate[chosen], weight, lean)


@dataclass(frozen=True, eq=False)
class Trained:
    """What came out: scores along the way, and the policies and β at the end.

    Args:
        scores: mean over the prompts of each split, in the order of `splits`; the first checkpoint is the reference
            itself.
        shared: θ at the end.
        table: each train prompt's own logits at the end, before they are scaled by the world's `private`.
        log_beta: log β of the train prompts at the end, as the policy sees it.
        by_prompt: scores of every prompt of a split, checkpoints before prompts, where they were asked for.
        measured: further numbers of every checkpoint, where they were asked for.
    """

    scores: Scores
    shared: Float[Tensor, "seeds configs features"]
    table: Float[Tensor, "seeds configs prompts answers"]
    log_beta: Float[Tensor, "seeds configs prompts"]
    splits: tuple[Split, ...] = SCORED
    by_prompt: Scores | None = None
    measured: Mapping[str, Float[np.ndarray, "seeds configs checkpoints"]] = field(
        default_factory=dict[str, np.ndarray]
    )

    @property
    def diverged(self) -> Bool[Tensor, "seeds configs"]:
        """Whether a run ended in numbers that are not finite; they are kept, so that they count against a method."""
        return ~(self.shared.isfinite().all(-1) & self.table.isfinite().flatten(2).all(-1))

    def on(self, split: Split) -> Scores:
        """Scores on one split, shaped (seeds, configs, checkpoints)."""
        at = self.splits.index(split)
        return Scores(reward=self.scores.reward[at], kl=self.scores.kl[at], win_rate=self.scores.win_rate[at])
