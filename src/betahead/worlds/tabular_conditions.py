"""A named tabular world under other conditions: steps of training, number of pairs, sharpness of labels, optimizer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from betahead.errors import ConfigError
from betahead.worlds.named import named_world
from betahead.worlds.tabular_runs import COMPARED, Training
from betahead.worlds.tabular_settings import TabularSettings

# Plain descent goes about as far in a step as AdamW does at this many times its learning rate.
_SGD_RATE = 100.0
_WIDEST = 16.0
_KEYS = ("steps", "data", "scale", "optimizer")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a world is compared under; 1 and `adamw` are what it is compared under where nothing is said.

    Args:
        steps: factor on the steps of training.
        data: factor on the prompts that have pairs.
        scale: factor on rewards as labels see them: labels of the same gold get surer. Gold keeps its unit.
        optimizer: of the policy and of what is learned of β; `sgd` with all learning rates times 100.
    """

    steps: float = 1.0
    data: float = 1.0
    scale: float = 1.0
    optimizer: Literal["adamw", "sgd"] = "adamw"

    def settings(self, named: TabularSettings) -> TabularSettings:
        """The world with its data and its labels changed."""
        topics = tuple(replace(topic, temperature=topic.temperature / self.scale) for topic in named.topics)
        return replace(named, topics=topics, train_prompts=round(self.data * named.train_prompts))

    @property
    def training(self) -> Training:
        """How policies are trained."""
        steps = round(self.steps * COMPARED.steps)
        if self.optimizer == "adamw":
            return replace(COMPARED, steps=steps)
        return replace(COMPARED, steps=steps, optimizer="gd", rate=_SGD_RATE)


def named_conditions(name: str) -> tuple[str, Conditions]:
    """The world and the conditions of a name: `half_noise`, or `half_noise@steps=8,optimizer=sgd`.

    Raises:
        ConfigError: no world has that name, or a condition is unknown, given twice or out of range.
    """
    world, at, given = name.partition("@")
    named_world(world)
    if not at:
        return world, Conditions()
    pairs = [part.partition("=") for part in given.split(",")]
    keys = [key for key, _, _ in pairs]
    for key in keys:
        if key not in _KEYS or keys.count(key) > 1:
            raise ConfigError(
                f"`world` must name each of its conditions once, of {', '.join(_KEYS)}, but is {name!r} instead."
            )
    values = {key: value for key, _, value in pairs}
    optimizer = values.pop("optimizer", "adamw")
    if optimizer not in ("adamw", "sgd"):
        raise ConfigError(f"`optimizer` of {name!r} must be adamw or sgd, but is {optimizer!r} instead.")
    factors = _factors(name, values)
    return world, Conditions(
        steps=factors.get("steps", 1.0),
        data=factors.get("data", 1.0),
        scale=factors.get("scale", 1.0),
        optimizer="sgd" if optimizer == "sgd" else "adamw",
    )


def _factors(name: str, values: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, text in values.items():
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 1.0 / _WIDEST <= value <= _WIDEST:
            raise ConfigError(f"`{key}` of {name!r} must be in [1/16, 16], but is {text!r} instead.")
        found[key] = value
    return found
