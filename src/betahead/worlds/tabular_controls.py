"""Controls around any way of setting β: what is left of a gain when β no longer belongs to its prompt."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from betahead.types import Shaping
from betahead.worlds.tabular import CONTROL_STREAM, TabularWorld
from betahead.worlds.tabular_learning import BetaCourse, BetaLearning, PerPair, PerPrompt, PerRun
from betahead.worlds.tabular_pairs import TabularPairs

ControlKind = Literal["permuted", "noise", "flipped", "matched"]


@dataclass(frozen=True, kw_only=True)
class ControlledBeta(BetaLearning):
    """Another way of setting β, whose β reaches the policy changed.

    `permuted`: every prompt gets the β of another one, the same one throughout training. At every step the β of all
        prompts are those of the rule, in another order.
    `noise`: log β = the rule's mean + the rule's spread × a normal draw, new for every prompt and step.
    `flipped`: log β = 2·mean − log β: where the rule raises β, it is lowered as much.
    `matched`: log β = mean for all prompts: the rule's level without its allocation.

    Means and spreads are over the train prompts, on the scale of log β.

    The rule inside is trained on the pairs of its own prompts with its own β, as without the control; only the policy
    sees the changed β. Were the rule trained through the changed β, the β that prompt π(x) lends to x would learn what
    x needs: a relabelling that undoes the placebo. So the rule's β stays an answer to the prompt's own margins (those
    of the control's policy), and what the policy gets has that distribution and no bearing on its prompt.

    Args:
        of: the way of setting β that is controlled for.
        kind: see above.
    """

    of: BetaLearning
    kind: ControlKind

    def begin(self, world: TabularWorld, configs: int) -> BetaCourse:
        """The control with its draws, which are the seed's: the same for all configurations."""
        return _Course(self.of.begin(world, configs), self.kind, world)

    def configs(self, chosen: slice) -> "ControlledBeta":
        """The same for some of the configurations."""
        return ControlledBeta(of=self.of.configs(chosen), kind=self.kind)

    def divided(self, world: TabularWorld, pairs: TabularPairs) -> tuple[TabularPairs, TabularPairs | None]:
        """As the rule inside divides them."""
        return self.of.divided(world, pairs)


class _Course(BetaCourse):
    """A control in the course of one training."""

    def __init__(self, of: BetaCourse, kind: ControlKind, world: TabularWorld) -> None:
        self.of, self.kind = of, kind
        self.per, self.learning_rate = of.per, of.learning_rate
        self.reads_kl = of.reads_kl
        self.loss, self.label_smoothing = of.loss, of.label_smoothing
        self.generators = [np.random.default_rng([seed, CONTROL_STREAM]) for seed in world.seeds]
        prompts = world.settings.train_prompts
        self.order: Int[Tensor, "seeds prompts"] = torch.from_numpy(
            np.stack([rng.permutation(prompts) for rng in self.generators])
        )

    def next_level(self, level: PerPrompt, kl: PerRun) -> PerPrompt:
        return self.of.next_level(level, kl)

    def held(self, log_beta: PerPrompt, level: PerPrompt) -> PerPrompt:
        return self.of.held(log_beta, level)

    def acting(self, log_beta: PerPrompt) -> PerPrompt:
        log_beta = self.of.acting(log_beta).detach()
        if self.kind == "permuted":
            return log_beta.gather(2, self.order[:, None].expand(log_beta.shape))
        mean = log_beta.mean(-1, keepdim=True)
        if self.kind == "noise":
            drawn = np.stack([rng.standard_normal(log_beta.shape[-1]) for rng in self.generators])
            return mean + log_beta.std(-1, correction=0, keepdim=True) * torch.from_numpy(drawn)[:, None]
        return 2 * mean - log_beta if self.kind == "flipped" else mean.expand_as(log_beta)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        return self.of.shaping(log_beta, level, margin)
