"""Prompts that no training pair has to do with: topics of their own, on which a policy should stay as it was."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.worlds.tabular import TabularWorld

# A stream of the seed that nothing else reads, so that a world is the same with these prompts and without.
_STREAM = 100
_PROMPTS = 200


@dataclass(frozen=True, eq=False)
class UnrelatedPrompts:
    """Prompts whose topics have no pair; all that they share with the others is what all prompts share.

    Args:
        features: φ(x, y); zero in the blocks of the topics.
        ref_logps: log π_ref(y|x), as sure as the reference is of the world's topics in turn.
    """

    features: Float[Tensor, "seeds prompts answers features"]
    ref_logps: Float[Tensor, "seeds prompts answers"]


def unrelated_prompts(world: TabularWorld) -> UnrelatedPrompts:
    """The unrelated prompts of every seed's world."""
    settings = world.settings
    rngs = [np.random.default_rng([seed, _STREAM]) for seed in world.seeds]
    shape = (_PROMPTS, settings.answers)
    everywhere = np.stack([rng.standard_normal((*shape, settings.features)) for rng in rngs])
    logits = np.stack([rng.standard_normal(shape) for rng in rngs])
    features = np.zeros((*everywhere.shape[:-1], world.features.shape[-1]))
    if settings.world_share > 0:
        features[..., : settings.features] = math.sqrt(settings.world_share) * everywhere
    sure = np.resize([topic.familiarity for topic in settings.topics], _PROMPTS)
    return UnrelatedPrompts(
        torch.from_numpy(features), torch.log_softmax(torch.from_numpy(sure[:, None] * logits), dim=-1)
    )


def retention(
    prompts: UnrelatedPrompts, shared: Float[Tensor, "seeds configs features"]
) -> Mapping[str, Float[np.ndarray, "seeds configs"]]:
    """How far policies have moved on unrelated prompts, in nats, exactly.

    `unrelated_kl` is KL(π‖π_ref). `unrelated_nll_rise` is the mean of log π_ref(y) − log π(y) over the reference's own
    answers: by how much what the reference knew has become less likely.

    Args:
        prompts: of the world that the policies were trained in.
        shared: θ of the policies; tables of single prompts do not reach here.
    """
    flat = shared @ prompts.features.flatten(1, 2).transpose(1, 2)
    logits = flat.unflatten(-1, prompts.features.shape[1:3])
    reference = prompts.ref_logps[:, None]
    logps = torch.log_softmax(reference + logits, dim=-1)
    probs, moved = logps.exp(), logps - reference
    kl = torch.where(probs == 0, 0.0, probs * moved).sum(-1).mean(-1)
    rise = -(reference.exp() * moved).sum(-1).mean(-1)
    return {"unrelated_kl": kl.numpy(), "unrelated_nll_rise": rise.numpy()}
