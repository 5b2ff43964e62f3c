"""β from held-out pairs in tabular worlds: log β descends the loss that they have after the policy's next step."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from betahead.errors import ConfigError
from betahead.types import Shaping
from betahead.worlds.tabular import HELDOUT_STREAM, TabularWorld
from betahead.worlds.tabular_learning import (
    BOUNDS,
    HeldBeta,
    LearnedPer,
    PerConfig,
    PerPair,
    PerPrompt,
    PromptBeta,
    at_least_zero,
    rising,
    within,
)
from betahead.worlds.tabular_pairs import TabularPairs
from betahead.worlds.tabular_policies import Policies, Weighed


@dataclass(frozen=True, kw_only=True)
class HeldoutBeta(PromptBeta):
    """The policy descends (β₀/β)·(−log σ(β·h)), the weight a constant; log β descends −log σ(β₀·h) of held-out prompts.

    The derivative is that of one step of the policy: what a little more β would have done to the held-out loss.

    What a train prompt's pairs teach about held-out prompts passes through what prompts share, so a β for each `topic`
    or for the `world` is sensible. With a β for each prompt a few pairs speak for each; and where prompts share
    nothing the derivative is zero, and β stays where it starts.

    Args:
        learning_rate: of log β; 0 leaves β where it starts.
        share: of the train prompts, whose pairs are held out; at least one prompt, and not all of them.
        bounds: smallest and largest β.
        per: what has a log β of its own.
    """

    learning_rate: PerConfig = 0.01
    share: float = 0.2
    bounds: tuple[float, float] = BOUNDS
    per: LearnedPer | None = "topic"

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: names the field and the value.
        """
        at_least_zero("learning_rate", self.learning_rate)
        if not 0 < self.share < 1:
            raise ConfigError(f"`share` must be in (0, 1), but is {self.share} instead.")
        rising(self.bounds)

    def divided(self, world: TabularWorld, pairs: TabularPairs) -> tuple[TabularPairs, TabularPairs | None]:
        """All pairs of a random share of the train prompts are held out, in every seed of other prompts.

        Raises:
            ConfigError: the share holds out no prompt, or all of them.
        """
        prompts = world.settings.train_prompts
        number = round(self.share * prompts)
        if not 0 < number < prompts:
            raise ConfigError(
                f"`share` must hold out at least one of {prompts} train prompts and not all of them, "
                f"but is {self.share} instead."
            )
        drawn = [np.random.default_rng([seed, HELDOUT_STREAM]).permutation(prompts) for seed in world.seeds]
        out = torch.from_numpy(np.stack(drawn)) < number
        held = out.gather(1, pairs.prompt)
        return _some(pairs, ~held), _some(pairs, held)

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        """log β within its bounds."""
        return within(self.bounds, log_beta)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        """β with weight β₀/β, no penalty."""
        return _EVEN.shaping(log_beta, level, margin)


_EVEN = HeldBeta(push="even")


def one_step_ahead(
    policies: Policies,
    batch: Weighed,
    held_out: Weighed,
    *,
    margin: PerPair,
    log_beta: PerPrompt,
    level: PerPrompt,
    share: float,
) -> PerPair:
    """d(held-out loss)/d(log β) of each pair of the step that the policies have just taken.

    dL/d log β_i = −w_i · (∂c_i/∂ log β_i) · D_v h_i with v = P·∇L(θ′). Here c = −β₀·σ(−β·h) is the derivative of the
    pair's loss by its margin, ∂c/∂ log β = β₀·βh·σ(βh)·σ(−βh), L the mean of −log σ(β₀·h) over held-out pairs, and P
    how far a unit of gradient moves the policy: the learning rate, with AdamW over the root of its second moment.

    Args:
        policies: after the step.
        batch: the pairs of the step.
        held_out: the pairs whose loss counts.
        margin: h of the batch before the step, nats.
        log_beta: that the step was taken with; level is its log β₀.
        share: factor on the learning rate.

    Deviates:
        P is held fixed: that AdamW's second moment depends on β too is left out here, while `train.lookahead` has it in
        its derivative. What the step leaves in its moments for later ones is not seen.
    """
    beta0 = level.exp()
    there = beta0.gather(2, held_out.where)
    by_margin = -held_out.weight * there * torch.sigmoid(-there * policies.margins(held_out.pairs))
    ahead = policies.moved(policies.gradient(by_margin, held_out.pairs), share)
    z = log_beta.exp().gather(2, batch.where) * margin
    by_log_beta = beta0.gather(2, batch.where) * z * torch.sigmoid(z) * torch.sigmoid(-z)
    return -batch.weight * by_log_beta * policies.margins(batch.pairs, along=ahead)


def _some(pairs: TabularPairs, chosen: Bool[Tensor, "seeds pairs"]) -> TabularPairs:
    """Some of each seed's pairs, equally many in all of them, with weights that sum to 1 again."""
    counts = chosen.sum(1)
    assert (counts == counts[0]).all(), f"prompts have unequal numbers of pairs: {counts.tolist()}"
    parts = {name: value[chosen].view(len(counts), -1) for name, value in vars(pairs).items()}
    weight: Float[Tensor, "seeds pairs"] = parts.pop("weight")
    return replace(pairs, weight=weight / weight.sum(1, keepdim=True), **parts)
