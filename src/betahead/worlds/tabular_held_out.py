"""Pairs that no policy was trained on, all of them with their exact chances: what a tabular policy says of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from betahead.stats.soft_calibration import soft_brier, soft_ece, soft_nll, soft_slope
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.world import Split

_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class HeldOutPairs:
    """Every pair of different answers to some prompts of a world.

    Args:
        split: whose prompts.
        kept: which of them.
        first, second: the two answers of each pair of a prompt.
        chance: that a label prefers the first one, noise included.
        weight: chance that the reference gives these two, each prompt counting the same; sums to 1 for every seed.
    """

    split: Split
    kept: slice
    first: Tensor
    second: Tensor
    chance: Float[np.ndarray, "seeds 1 pairs"]
    weight: Float[np.ndarray, "seeds 1 pairs"]


@dataclass(frozen=True, eq=False)
class SaidOfPairs:
    """What policies say of pairs.

    Args:
        z: β(x)·h, the logit that the first answer is preferred.
        first, second: log π(y)/π_ref(y) of the two answers.
        finite: False for a run with a number that is not; its z is 0.
    """

    z: Float[np.ndarray, "seeds configs pairs"]
    first: Float[np.ndarray, "seeds configs pairs"]
    second: Float[np.ndarray, "seeds configs pairs"]
    finite: Bool[np.ndarray, "seeds configs"]


def held_out_pairs(world: TabularWorld, split: Split, kept: slice) -> HeldOutPairs:
    """The pairs of the chosen prompts of a split."""
    ref, gold = (part[:, world.splits[split]][:, kept] for part in (world.ref_logps.exp(), world.gold))
    first, second = torch.triu_indices(world.settings.answers, world.settings.answers, offset=1)
    both = ref[..., first] * ref[..., second]
    topic = world.topic[world.splits[split]][kept][None, :, None].expand(both.shape)
    chance = world.win_probability(gold[..., first], gold[..., second], topic)
    weight = both / both.sum(-1, keepdim=True) / both.shape[1]
    return HeldOutPairs(
        split, kept, first, second, chance.flatten(1)[:, None].numpy(), weight.flatten(1)[:, None].numpy()
    )


def said_of(
    pairs: HeldOutPairs,
    world: TabularWorld,
    logps: Float[Tensor, "seeds configs prompts answers"],
    log_beta: Float[Tensor, "seeds configs prompts"],
) -> SaidOfPairs:
    """What policies, given on all prompts of the pairs' split, say of the pairs."""
    here = world.ref_logps[:, None, world.splits[pairs.split]]
    moved = (logps - here)[:, :, pairs.kept]
    # What rounding left is no movement: a temperature would be fitted to it.
    moved = torch.where(moved.abs() < _ROUNDING, 0.0, moved)
    first, second = moved[..., pairs.first], moved[..., pairs.second]
    z = (log_beta[:, :, pairs.kept, None].exp() * (first - second)).flatten(2)
    finite = z.isfinite().all(-1)
    z = torch.where(finite[..., None], z, 0.0)
    return SaidOfPairs(z.numpy(), first.flatten(2).numpy(), second.flatten(2).numpy(), finite.numpy())


def pair_slope(pairs: HeldOutPairs, said: SaidOfPairs) -> Float[np.ndarray, "seeds configs"]:
    """The a with which σ(a·z) has the least NLL on these pairs; nan where all z are 0."""
    return soft_slope(said.z, pairs.chance, pairs.weight)


def pair_measures(
    pairs: HeldOutPairs,
    said: SaidOfPairs,
    slope: Float[np.ndarray, "seeds configs"],
    fitted: Float[np.ndarray, "seeds configs"],
    *,
    tempered: bool,
) -> Mapping[str, Float[np.ndarray, "seeds configs"]]:
    """The measures of the group `held-out pairs`; nan for runs that are not finite.

    Args:
        pairs: held out.
        said: of them.
        slope: `pair_slope` of these pairs.
        fitted: that of the pairs on which the one temperature is fitted, 1/T; where it is nan or below 0 no temperature
            helps, and T is infinite.
        tempered: whether the policy is read with that temperature in the first place.
    """
    factor = np.nan_to_num(np.maximum(fitted, 0.0))
    p, w = pairs.chance, pairs.weight
    cool = factor[..., None] * said.z
    z = cool if tempered else said.z
    with np.errstate(invalid="ignore"):  # of runs that diverged
        found = {
            "chosen_shift": np.sum(w * (p * said.first + (1.0 - p) * said.second), axis=-1),
            "rejected_shift": np.sum(w * (p * said.second + (1.0 - p) * said.first), axis=-1),
        }
    found |= {
        "both_down": np.sum(w * ((said.first < 0.0) & (said.second < 0.0)), axis=-1),
        "held_out_accuracy": np.sum(w * (0.5 + np.sign(z) * (p - 0.5)), axis=-1),
        "held_out_nll": soft_nll(z, p, w),
        "held_out_brier": soft_brier(z, p, w),
        "held_out_ece": soft_ece(z, p, w),
        "held_out_slope": slope / np.where(factor > 0.0, factor, np.nan) if tempered else slope,
        "tempered_nll": soft_nll(cool, p, w),
        "tempered_ece": soft_ece(cool, p, w),
    }
    return {name: np.where(said.finite, value, np.nan) for name, value in found.items()}
