"""The space of each method of a plan: ranges of the axes that all share, then of its own; and what lies outside."""

from collections.abc import Mapping

from betahead.compare.cells import did_you_mean
from betahead.compare.plan import MethodSection, Plan, Range
from betahead.errors import ConfigError
from betahead.worlds.outcome import WorldMethod

Space = Mapping[str, Range]


def space_of(plan: Plan, name: str, declared: WorldMethod, section: MethodSection) -> Space:
    """The ranges that the plan gives, else those that the world declares.

    Raises:
        ConfigError: the plan gives a range for an axis that the method does not have.
    """
    own = {axis.name: Range(low=axis.low, high=axis.high, log=axis.log) for axis in declared.axes}
    for axis in section.space:
        if axis not in own:
            known = did_you_mean(axis, own) if own else "it has none beyond the shared `axes`."
            raise ConfigError(f"`methods.{name}.space.{axis}` is not an axis of {name}; {known}")
    shared = {"learning_rate": plan.axes.learning_rate, "beta": plan.axes.beta}
    return {**shared, **{axis: section.space.get(axis, given) for axis, given in own.items()}}


def refuse_outside(configuration: Mapping[str, float], space: Space, what: str) -> None:
    """A configuration has a value for every axis of its space, inside its range, and for nothing else.

    Raises:
        ConfigError: names the axis, the value and the range.
    """
    for name in configuration:
        if name not in space:
            raise ConfigError(f"`{what}.{name}` is not an axis of the space; {did_you_mean(name, space)}")
    for name, axis in space.items():
        if name not in configuration:
            raise ConfigError(f"`{what}.{name}` is missing; give every axis of the space a value.")
        value = configuration[name]
        if not axis.low <= value <= axis.high:
            raise ConfigError(
                f"`{what}.{name}` must be inside its declared space [{axis.low:g}, {axis.high:g}], but is {value:g} "
                "instead; widen the space for every configuration or leave this one out."
            )
