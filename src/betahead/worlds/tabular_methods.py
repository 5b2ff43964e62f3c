"""A named tabular world as something that methods are compared in."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.errors import ConfigError
from betahead.worlds.named import named_world
from betahead.worlds.outcome import MethodWorld, Outcome, PromptTopics, WorldMethod
from betahead.worlds.registered import TABULAR, unknown_method, why_not
from betahead.worlds.tabular import Scores, TabularWorld, kl_quartiles, tabular_world
from betahead.worlds.tabular_conditions import named_conditions
from betahead.worlds.tabular_controls import ControlledBeta
from betahead.worlds.tabular_measures import TABULAR_MEASURES, TabularMeasures
from betahead.worlds.tabular_method import SHARED_AXES, Planted, Values
from betahead.worlds.tabular_method_table import TABULAR_METHODS
from betahead.worlds.tabular_oracles import oracle_of, recorded
from betahead.worlds.tabular_pairs import TabularPairs, sampled_pairs
from betahead.worlds.tabular_registered_table import REGISTERED_METHODS
from betahead.worlds.tabular_runs import Trained
from betahead.worlds.tabular_settings import TabularSettings
from betahead.worlds.tabular_training import train
from betahead.worlds.tabular_variants import planted_effect
from betahead.worlds.world import Split

# The worlds that the KL targets are read from; nothing is trained in them.
_TRUTH_SEEDS = tuple(range(900, 908))


def tabular_method_world(name: str, *, planted: Sequence[float] = ()) -> MethodWorld:
    """The named world with every tabular method.

    Args:
        name: one of `NAMED_WORLDS`, with conditions where it has some: `half_noise@steps=8`.
        planted: sizes of planted effects, each of which is a further method `planted:SIZE`. They exist to test whether
            a comparison finds an effect that is there.

    Raises:
        ConfigError: no world has that name, or its conditions are out of range.
    """
    return _TabularMethodWorld(name, planted)


class _TabularMethodWorld:
    """See `tabular_method_world`."""

    def __init__(self, name: str, planted: Sequence[float]) -> None:
        self._world, conditions = named_conditions(name)
        self.settings = conditions.settings(named_world(self._world))
        self.training = conditions.training
        self.name = name
        self._oracle = oracle_of(self._world)
        effects = [planted_effect(size) for size in planted]
        self._own = {**TABULAR_METHODS, **{method.described.name: method for method in effects}}
        self._table = {**self._own, **REGISTERED_METHODS}

    def methods(self) -> Mapping[str, WorldMethod]:
        return MappingProxyType({name: method.described for name, method in self._table.items()})

    def kl_targets(self) -> tuple[float, ...]:
        world = tabular_world(self.settings, _TRUTH_SEEDS)
        return tuple(kl_quartiles(world, self.settings.scored_split).tolist())

    def measures(self) -> tuple[str, ...]:
        """The names of what it measures beside gold and KL."""
        return TABULAR_MEASURES

    def runs_of(self, method: str) -> str:
        """The method whose very runs are those of this one, given what is planted here."""
        return self._table[method].same_as(self.settings, self._oracle) or method

    def topic_oracle(self) -> tuple[float, ...]:
        """β of each topic over their geometric mean, as the oracle has it."""
        return self._oracle.multiplier

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "settings": asdict(self.settings),
            "training": asdict(self.training),
            "oracle": recorded()[self._world],
            "methods": [method.to_dict() for method in self._own.values()],
            "truth_seeds": list(_TRUTH_SEEDS),
        }

    def declared(self, methods: Collection[str]) -> Mapping[str, Any]:
        """What those of these methods declare that the fingerprint leaves out: the package's rules and losses."""
        rows = {name: REGISTERED_METHODS[name] for name in methods if name in REGISTERED_METHODS}
        return {name: {**row.to_dict(), "settings": {**row.settings}} for name, row in sorted(rows.items())}

    def why_not(self, method: str) -> str | None:
        """Why there is no such method here, where its name says what it would be."""
        return why_not(method, self._table, TABULAR)

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        began = time.perf_counter()
        row = self._table.get(method)
        if row is None:
            raise ConfigError(unknown_method(method, self._table, self.why_not(method)))
        values = _values(row.described, configurations)
        world, pairs = _world_of(self.settings, tuple(seeds))
        planted = Planted(world=world, oracle=self._oracle)
        (scored, kept), dev = (_scored_prompts(self.settings, which) for which in (split, "eval"))
        learning = row.learning(values, planted)
        # The β of a control has no bearing on its prompt, so other prompts get no lean of their own either.
        lean = None if row.lean is None or isinstance(learning, ControlledBeta) else row.lean(planted)
        trained = train(
            world,
            row.pairs(world, pairs),
            row.runs(values, planted),
            self.training,
            learning,
            splits=[scored, dev[0]] if row.stopped and dev[0] != scored else [scored],
            by_prompt=True,
            measuring=TabularMeasures(world, scored=(scored, kept), dev=dev, lean=lean, tempered=row.tempered),
        )
        scores = trained.by_prompt
        assert scores is not None
        return Outcome(
            reward=_array(scores.reward[..., kept]) + row.bonus,
            kl=_array(scores.kl[..., kept]),
            win_rate=_array(scores.win_rate[..., kept]) + row.bonus,
            finite=_array(_finite(trained, scores)),
            checkpoints=(0.0, *self.training.checkpoints),
            same_prompts=False,
            log_beta=None if row.of_batch else _array(_topic_means(world, trained.log_beta)),
            seconds=time.perf_counter() - began,
            dev=_array(_on_dev(self.settings, trained, scores)) if row.stopped else None,
            measures={name: value.swapaxes(0, 1) for name, value in trained.measured.items()},
            topics=PromptTopics(
                of_prompt=world.topic[world.splits[scored]][kept].numpy(),
                label_noise=tuple(topic.label_noise for topic in self.settings.topics),
            ),
        )


@lru_cache(maxsize=4)
def _world_of(settings: TabularSettings, seeds: tuple[int, ...]) -> tuple[TabularWorld, TabularPairs]:
    world = tabular_world(settings, seeds)
    return world, sampled_pairs(world)


def _scored_prompts(settings: TabularSettings, split: Literal["eval", "test"]) -> tuple[Split, slice]:
    """The split of the world, and which of its prompts count.

    Where prompts share nothing a policy moves on train prompts only, so every second of them is for selection and the
    others are for the final number; gold is never trained on.
    """
    if settings.scored_split != "train":
        return split, slice(None)
    return "train", slice(0 if split == "eval" else 1, None, 2)


def _values(method: WorldMethod, configurations: Sequence[Mapping[str, float]]) -> Values:
    names = [axis.name for axis in (*SHARED_AXES, *method.axes)]
    for configuration in configurations:
        if set(configuration) != set(names):
            raise ConfigError(
                f"`configurations` of {method.name} must each hold {', '.join(names)}, but hold "
                f"{', '.join(configuration) or 'nothing'} instead."
            )
        for axis in SHARED_AXES:
            value = configuration[axis.name]
            if not value > 0:
                raise ConfigError(f"`{axis.name}` of {method.name} must be above 0, but is {value} instead.")
    return {name: torch.tensor([float(c[name]) for c in configurations], dtype=torch.float64) for name in names}


def _finite(trained: Trained, scores: Scores) -> Tensor:
    each = torch.stack([scores.reward, scores.kl, scores.win_rate]).isfinite()
    return ~trained.diverged & each.flatten(3).all(-1).all(0)


def _on_dev(
    settings: TabularSettings, trained: Trained, scores: Scores
) -> Float[Tensor, "seeds configs checkpoints two"]:
    """Mean reward and KL on the prompts of selection, whichever prompts were scored."""
    dev, selected = _scored_prompts(settings, "eval")
    if dev in trained.splits[1:]:
        on = trained.on(dev)
        return torch.stack([on.reward, on.kl], dim=-1)
    return torch.stack([part[..., selected].mean(-1) for part in (scores.reward, scores.kl)], dim=-1)


def _topic_means(world: TabularWorld, log_beta: Tensor) -> Float[Tensor, "seeds configs topics"]:
    topic = world.topic[: world.settings.train_prompts]
    member = torch.nn.functional.one_hot(topic).double()
    return log_beta @ (member / member.sum(0))


def _array(of: Tensor) -> np.ndarray:
    """Configurations before seeds."""
    return of.transpose(0, 1).contiguous().numpy()
