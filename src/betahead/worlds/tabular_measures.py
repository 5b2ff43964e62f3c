"""What is measured of tabular policies beside gold and KL, at every checkpoint of their training."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.worlds.measures import MEASURES
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_held_out import (
    HeldOutPairs,
    SaidOfPairs,
    held_out_pairs,
    pair_measures,
    pair_slope,
    said_of,
)
from betahead.worlds.tabular_training import Moment, policy_logps
from betahead.worlds.tabular_unrelated import retention, unrelated_prompts
from betahead.worlds.world import Split

TABULAR_MEASURES: tuple[str, ...] = tuple(
    name for name, measure in MEASURES.items() if measure.group in {"held-out pairs", "retention"}
)
"""Answers of a tabular world have no tokens, and its KL no error: the other measures do not exist there."""

Prompts = tuple[Split, slice]
"""A split, and which of its prompts."""


class TabularMeasures:
    """The measures of policies in a world, as `train` asks for them.

    Args:
        world: where they are trained.
        scored: the prompts that the measures are of.
        dev: the prompts on whose pairs the one temperature is fitted; where they are those that are scored, as in
            selection, it is fitted on the pairs that it is judged on.
        lean: what a method adds to log β of every prompt of the world beyond its topic, or None.
        tempered: whether policies are read with the temperature in the first place.
    """

    def __init__(
        self,
        world: TabularWorld,
        *,
        scored: Prompts,
        dev: Prompts,
        lean: Float[Tensor, "seeds prompts"] | None,
        tempered: bool,
    ) -> None:
        self.world, self.tempered = world, tempered
        self.lean = torch.zeros(1, world.topic.shape[0], dtype=torch.float64) if lean is None else lean
        self.scored = held_out_pairs(world, *scored)
        self.dev = self.scored if dev == scored else held_out_pairs(world, *dev)
        self.unrelated = unrelated_prompts(world)

    def __call__(self, moment: Moment) -> Mapping[str, Float[np.ndarray, "seeds configs"]]:
        """The measures at a moment of training."""
        said = self._said(moment, self.scored)
        slope = pair_slope(self.scored, said)
        fitted = slope if self.dev is self.scored else pair_slope(self.dev, self._said(moment, self.dev))
        pairs = pair_measures(self.scored, said, slope, fitted, tempered=self.tempered)
        return {**pairs, **retention(self.unrelated, moment.shared)}

    def _said(self, moment: Moment, pairs: HeldOutPairs) -> SaidOfPairs:
        logps = policy_logps(self.world, moment.shared, moment.table, pairs.split)
        return said_of(pairs, self.world, logps, self.log_beta(moment.log_beta, pairs.split))

    def log_beta(
        self, of_train: Float[Tensor, "seeds configs prompts"], split: Split
    ) -> Float[Tensor, "seeds configs prompts"]:
        """log β of the prompts of a split: those of train are known.

        Another prompt has what its topic has learned, the mean over the topic's train prompts of log β without their
        lean, and a lean of its own.
        """
        if split == "train":
            return of_train
        here, train = (self.world.splits[name] for name in (split, "train"))
        member = torch.nn.functional.one_hot(self.world.topic).double()
        learned = (of_train - self.lean[:, None, train]) @ (member[train] / member[train].sum(0))
        return learned[..., self.world.topic[here]] + self.lean[:, None, here]
