"""What could be won in a tabular world: the fixed-β frontier, and β(x) and weights found with the truth in hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.errors import ConfigError
from betahead.worlds.tabular import TabularWorld, kl_quartiles, tabular_world
from betahead.worlds.tabular_frontier import Frontier, frontier, reward_at_kl
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_settings import TabularSettings
from betahead.worlds.tabular_training import train
from betahead.worlds.world import Split

# Per-topic multipliers of β are sought within a factor of 16 either way.
_WIDEST = float(np.log(16.0))
_FIRST_STEP = float(np.log(4.0))
_CANDIDATES_A_ROUND = 8

# The best of many tries is partly luck, so a try must lead by this many standard errors over the search seeds.
_LEAD = 2.0

# A configuration is chosen for a KL only if it went this much further: on other seeds it might just miss it.
_FURTHER = 1.3


@dataclass(frozen=True, kw_only=True)
class Search:
    """How the truth is searched for.

    Args:
        betas: levels of β that every method is tuned over.
        learning_rates: that every method is tuned over.
        budget: allocations of β over topics that the oracle may try, the constant one included; at least 1.
        search_seeds: of the worlds that the search sees.
        fresh_seeds: of the worlds that give the numbers; none of them a search seed.
        training: how long, and by which optimizer; its checkpoints are early stops open to every method.
        split: the prompts that count; None takes `TabularSettings.scored_split`.
        push: with `beta` the loss is −log σ(β(x)·h), whose first push on a pair is proportional to β(x), so that an
            oracle may use β as a weight; with `even` the loss is divided by the topic's multiplier, so that β(x) only
            sets where a pair stops.
        metric: gold reward, or the chance to beat an answer of the reference.
        seed: of the search itself.
    """

    betas: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1)
    budget: int = 33
    search_seeds: tuple[int, ...] = tuple(range(8))
    fresh_seeds: tuple[int, ...] = tuple(range(100, 112))
    training: Training = field(default_factory=Training)
    split: Split | None = None
    push: Literal["beta", "even"] = "beta"
    metric: Literal["reward", "win_rate"] = "reward"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a search that could not be believed.

        Raises:
            ConfigError: names the field and the value.
        """
        if self.budget < 1:
            raise ConfigError(f"`budget` must be at least 1, but is {self.budget} instead.")
        if not self.betas or not self.learning_rates or min((*self.betas, *self.learning_rates)) <= 0:
            raise ConfigError(
                "`betas` and `learning_rates` must each hold numbers above 0, but are "
                f"{self.betas} and {self.learning_rates} instead."
            )
        both = sorted(set(self.search_seeds) & set(self.fresh_seeds))
        if both or not self.search_seeds or not self.fresh_seeds:
            raise ConfigError(
                "`search_seeds` and `fresh_seeds` must each hold seeds and share none, but share "
                f"{both} instead; a number from a seed that was searched on flatters the search."
            )


@dataclass(frozen=True, eq=False)
class Headroom:
    """What the best β(x), and the best choice of pairs, win over the best fixed β at the same KL.

    Args:
        targets: KL in nats.
        fixed: the metric of tuned fixed β on fresh seeds; NaN where a run did not get that far.
        oracle: that of the best allocation of β over topics, its level and learning rate tuned alike.
        weight_oracle: that of tuned fixed β when the pairs of noisy topics are dropped.
        multiplier: of β for each topic, as the oracle found them; geometric mean 1.
        dropped: whether the weight oracle drops the pairs of a topic.
        search_fixed: the frontier of fixed β on the seeds that were searched on.
        search_oracle: the oracle's there.
        runs: policies trained.
    """

    targets: Float[Tensor, " targets"]
    fixed: Float[Tensor, "seeds targets"]
    oracle: Float[Tensor, "seeds targets"]
    weight_oracle: Float[Tensor, "seeds targets"]
    multiplier: Float[Tensor, " topics"]
    dropped: tuple[bool, ...]
    search_fixed: Frontier
    search_oracle: Frontier
    runs: int

    def won(self, by: Literal["oracle", "weight_oracle"] = "oracle") -> tuple[Tensor, Tensor]:
        """Mean gain over fixed β per target on fresh seeds, and its standard error, paired by seed.

        A seed in which either missed the KL has no pair; with fewer than two pairs the error is NaN.
        """
        gain = (self.oracle if by == "oracle" else self.weight_oracle) - self.fixed
        paired = gain.isfinite()
        count = paired.sum(0)
        mean = gain.nanmean(0)
        squares = torch.where(paired, (gain - mean).square(), 0.0).sum(0)
        return mean, torch.where(count > 1, (squares / (count - 1) / count).sqrt(), torch.nan)


def headroom(settings: TabularSettings, search: Search | None = None) -> Headroom:
    """Search for the oracles on some seeds, and measure them against tuned fixed β on others.

    Raises:
        ConfigError: the split holds prompts that no policy of this world can move on.
    """
    search = search or Search()
    split = search.split or settings.scored_split
    if split != "train" and settings.scored_split == "train":
        raise ConfigError(
            f"`split` must be train where prompts share nothing, but is {split} instead; "
            "a policy learned on train prompts leaves all others as they were."
        )
    world = tabular_world(settings, search.search_seeds)
    targets = kl_quartiles(world, split)
    nothing_dropped = torch.zeros(1, len(settings.topics), dtype=torch.bool)

    def betas_tried(log_multiplier: Tensor) -> list[Frontier]:
        dropped = nothing_dropped.expand(log_multiplier.shape[0], -1)
        at_kl = _measured(world, log_multiplier, dropped, targets, search, further=_FURTHER)
        return [frontier(of_one) for of_one in at_kl]

    log_multiplier, fixed, oracle = _oracle(betas_tried, _first_guesses(settings), search)
    choices = _droppable(settings)
    even = torch.zeros(len(choices), len(settings.topics), dtype=torch.float64)
    frontiers = [frontier(of_one) for of_one in _measured(world, even, choices, targets, search, further=_FURTHER)]
    best = 0
    for number, its in enumerate(frontiers):
        if its.beats(frontiers[best], by_errors=_LEAD):
            best = number

    fresh = tabular_world(settings, search.fresh_seeds)
    three = torch.stack([even[0], log_multiplier, even[0]])
    drops = torch.stack([choices[0], choices[0], choices[best]])
    measured = _measured(fresh, three, drops, targets, search)
    grid = len(search.betas) * len(search.learning_rates)
    return Headroom(
        targets=targets,
        fixed=fixed.of(measured[0]),
        oracle=oracle.of(measured[1]),
        weight_oracle=frontiers[best].of(measured[2]),
        multiplier=log_multiplier.exp(),
        dropped=tuple(bool(drop) for drop in choices[best]),
        search_fixed=fixed,
        search_oracle=oracle,
        runs=grid * ((search.budget + len(choices)) * len(search.search_seeds) + 3 * len(search.fresh_seeds)),
    )


def _oracle(
    tried: Callable[[Tensor], list[Frontier]], guesses: Float[Tensor, "guesses topics"], search: Search
) -> tuple[Float[Tensor, " topics"], Frontier, Frontier]:
    """The best log multipliers, the frontier of the constant β, and the best's.

    The guesses first; then half of each round steps away from the best so far, and half lies anywhere.
    """
    rng = np.random.default_rng(search.seed)
    topics = guesses.shape[1]
    best = torch.zeros(topics, dtype=torch.float64)
    fixed = tried(best[None])[0]
    best_frontier, left = fixed, search.budget - 1
    while left > 0:
        if guesses.shape[0] > 0:
            candidates, guesses = guesses[:_CANDIDATES_A_ROUND], guesses[_CANDIDATES_A_ROUND:]
        else:
            near = best.numpy() + rng.normal(0.0, 0.7, (_CANDIDATES_A_ROUND // 2, topics))
            far = rng.uniform(-_WIDEST, _WIDEST, (_CANDIDATES_A_ROUND // 2, topics))
            candidates = torch.from_numpy(np.concatenate([near, far]))
        candidates = candidates[:left].clamp(-_WIDEST, _WIDEST)
        candidates = candidates - candidates.mean(1, keepdim=True)
        for candidate, its in zip(candidates, tried(candidates), strict=True):
            if its.beats(best_frontier, by_errors=_LEAD):
                best, best_frontier = candidate, its
        left -= candidates.shape[0]
    return best, fixed, best_frontier


def _first_guesses(settings: TabularSettings) -> Float[Tensor, "guesses topics"]:
    """Log multipliers to begin with: along everything that is planted, then one topic at a time, each both ways."""
    planted = torch.tensor(
        [
            [topic.label_noise, np.log(topic.reward_scale), np.log(topic.temperature), topic.familiarity]
            for topic in settings.topics
        ],
        dtype=torch.float64,
    ).T
    planted = planted - planted.mean(1, keepdim=True)
    largest = planted.abs().amax(1, keepdim=True)
    varied = largest[:, 0] > 1e-9
    ways = torch.cat([planted[varied] / largest[varied], torch.eye(len(settings.topics), dtype=torch.float64)])
    return _FIRST_STEP * torch.stack([ways, -ways], dim=1).flatten(0, 1)


def _measured(
    world: TabularWorld,
    log_multiplier: Tensor,
    dropped: Tensor,
    targets: Tensor,
    search: Search,
    further: float = 1.0,
) -> Float[Tensor, "allocations seeds configs targets"]:
    """The metric at each KL for every allocation, over all levels of β and learning rates."""
    allocations = log_multiplier.shape[0]
    grid = [(beta, rate) for beta in search.betas for rate in search.learning_rates]
    level = torch.tensor([beta for beta, _ in grid], dtype=torch.float64).log()
    rate = torch.tensor([rate for _, rate in grid], dtype=torch.float64)
    topic = world.topic[: world.settings.train_prompts]
    per_topic = (log_multiplier[:, None, :] + level[None, :, None]).flatten(0, 1)
    weight = (~dropped).double()
    if search.push == "even":
        weight = weight / log_multiplier.exp()
    weight = weight[:, None, :].expand(-1, len(grid), -1).flatten(0, 1)
    runs = Runs(
        log_beta=per_topic[None, :, topic], learning_rate=rate.repeat(allocations), weight=weight[None, :, topic]
    )
    split = search.split or world.settings.scored_split
    scores = train(world, sampled_pairs(world), runs, search.training, splits=[split]).on(split)
    metric = scores.reward if search.metric == "reward" else scores.win_rate
    at_kl = reward_at_kl(metric, scores.kl, targets)
    if further > 1.0:
        at_kl = torch.where(reward_at_kl(metric, scores.kl, further * targets).isfinite(), at_kl, torch.nan)
    return at_kl.unflatten(1, (allocations, len(grid))).transpose(0, 1)


def _droppable(settings: TabularSettings) -> Tensor:
    """Which topics to drop: none, then those from each level of label noise upwards, but never all."""
    noise = torch.tensor([topic.label_noise for topic in settings.topics], dtype=torch.float64)
    levels: Sequence[float] = sorted(set(noise.tolist()))[1:]
    return torch.stack([torch.zeros_like(noise, dtype=torch.bool), *(noise >= level for level in levels)])
