"""β-DPO in tabular worlds: one β for each batch, from the margins of the batch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from betahead.errors import ConfigError
from betahead.types import Shaping
from betahead.worlds.tabular import CONTROL_STREAM, TabularWorld
from betahead.worlds.tabular_learning import BetaCourse, BetaLearning, PerConfig, PerPair, some_configs

# Of the moving mean and spread of the margin, as released.
_MOMENTUM = 0.9
_SMALLEST_BETA = 1e-3
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True, kw_only=True)
class BatchBeta(BetaLearning):
    """β = max(β₀·(1 + a·(mean h of the kept pairs − m)), 10⁻³), m a moving mean of h; a share of the pairs is dropped.

    Pairs are kept with chances ∝ exp(−((h − m)/s)²/2), without replacement; s is a moving standard deviation. Both
    move before they are used, from 0. The loss is the mean over the kept pairs.

    Args:
        response: a ≥ 0, per nat.
        drop: share of a batch that is dropped, in [0, 1).

    Source:
        Wu et al. 2024, https://arxiv.org/abs/2407.08639, as in the code released with it: h in nats, not β₀·h.

    Deviates:
        s is held above 1e-6, because margins are all 0 at the first step.
    """

    response: PerConfig = 0.6
    drop: PerConfig = 0.2

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            ConfigError: names the field and the value.
        """
        if not bool((torch.as_tensor(self.response) >= 0).all()):
            raise ConfigError(f"`response` must be at least 0, but is {self.response} instead.")
        drop = torch.as_tensor(self.drop)
        if not bool(((drop >= 0) & (drop < 1)).all()):
            raise ConfigError(f"`drop` must be in [0, 1), but is {self.drop} instead.")

    def begin(self, world: TabularWorld, configs: int) -> BetaCourse:
        """The rule with moving statistics of its own."""
        return _Course(self, world, configs)

    def configs(self, chosen: slice) -> "BatchBeta":
        """The same for some of the configurations."""
        return some_configs(self, chosen)


class _Course(BetaCourse):
    """β-DPO in the course of one training."""

    def __init__(self, rule: BatchBeta, world: TabularWorld, configs: int) -> None:
        self.response, self.drop = (
            torch.as_tensor(value, dtype=torch.float64).expand(configs)[:, None] for value in (rule.response, rule.drop)
        )
        self.generators = [np.random.default_rng([seed, CONTROL_STREAM]) for seed in world.seeds]
        self.mean = torch.zeros(len(world.seeds), configs, 1, dtype=torch.float64)
        self.spread = torch.zeros_like(self.mean)

    def shaping(self, log_beta: PerPair, level: PerPair, margin: PerPair) -> Shaping:
        pairs = margin.shape[-1]
        self.mean = _MOMENTUM * self.mean + (1 - _MOMENTUM) * margin.mean(-1, keepdim=True)
        self.spread = _MOMENTUM * self.spread + (1 - _MOMENTUM) * margin.std(-1, keepdim=True)
        kept_pairs = (pairs * (1 - self.drop)).floor().clamp(min=1)
        kept = (self._ranks(margin) < kept_pairs).double()
        kept_mean = (kept * margin).sum(-1, keepdim=True) / kept_pairs
        beta = log_beta.exp() * (1 + self.response * (kept_mean - self.mean))
        beta = beta.clamp(min=_SMALLEST_BETA).flatten()
        zeros = torch.zeros_like(beta)
        return Shaping(beta=beta, target=zeros, weight=(kept * pairs / kept_pairs).flatten(), penalty=zeros)

    def _ranks(self, margin: PerPair) -> Tensor:
        """The order in which pairs are drawn: Gumbel noise on log chances draws without replacement."""
        drawn = torch.from_numpy(np.stack([rng.gumbel(size=margin.shape[-1]) for rng in self.generators]))
        distance = (margin - self.mean) / self.spread.clamp(min=_SMALLEST_SPREAD)
        return (drawn[:, None] - 0.5 * distance.square()).argsort(-1, descending=True).argsort(-1)
