"""From the name of a cell to the world it runs in: KIND/NAME, such as `tabular/half_noise`."""

import difflib
import importlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from betahead.errors import ConfigError, DataError
from betahead.worlds.outcome import MethodWorld
from betahead.worlds.tabular_methods import tabular_method_world

WorldOf = Callable[[str], MethodWorld]


def _sequence_world(name: str) -> MethodWorld:
    if name != "grammar":
        raise ConfigError(f"`world` must be grammar, but is {name!r} instead.")
    # A language model is heavy, and most plans have none.
    return importlib.import_module("betahead.runs.sequence").sequence_method_world()


KINDS: Mapping[str, WorldOf] = {"tabular": tabular_method_world, "sequence": _sequence_world}


@runtime_checkable
class NamedPrompts(Protocol):
    """A world whose prompts are texts, so that a test prompt can be looked for among the training prompts."""

    def prompt_texts(self, split: Literal["train", "eval", "test"]) -> Collection[str]:
        """The prompts of a split."""
        ...


@runtime_checkable
class Measuring(Protocol):
    """A world that measures more than gold and KL."""

    def measures(self) -> Collection[str]:
        """The names of `MEASURES` that its outcomes hold."""
        ...


@runtime_checkable
class Copying(Protocol):
    """A world in which some methods are others under another name."""

    def runs_of(self, method: str) -> str:
        """The method whose very runs are those of this one; itself, where they are its own."""
        ...


def runs_of(world: MethodWorld, method: str) -> str:
    """The method whose very runs are those of this one in that world."""
    return world.runs_of(method) if isinstance(world, Copying) else method


@runtime_checkable
class KnownAllocation(Protocol):
    """A world for which it is known how the best β differs between topics."""

    def topic_oracle(self) -> Sequence[float]:
        """β of each topic over their geometric mean."""
        ...


def oracle_of_topics(world: MethodWorld) -> Sequence[float] | None:
    """β of each topic over their geometric mean as the oracle has it; None where that is not known beforehand."""
    return world.topic_oracle() if isinstance(world, KnownAllocation) else None


def world_of(cell: str) -> MethodWorld:
    """The world of a cell.

    Raises:
        ConfigError: no world has that name.
    """
    kind, _, name = cell.partition("/")
    if kind not in KINDS or not name:
        raise ConfigError(
            f"`cells` must be KIND/NAME with KIND one of {', '.join(KINDS)}, but one is {cell!r} instead."
        )
    try:
        return KINDS[kind](name)
    except ConfigError as error:
        raise ConfigError(f"`cells` names {cell!r}, which is no world: {error}") from None


def refuse_seen_prompts(world: MethodWorld, cell: str) -> None:
    """A world whose prompts are texts must keep those it is judged on out of what it trains and selects on.

    Raises:
        DataError: names the first test prompt that training or selection has seen.
    """
    if not isinstance(world, NamedPrompts):
        return
    test = set(world.prompt_texts("test"))
    for split in ("train", "eval"):
        both = sorted(test & set(world.prompt_texts(split)))
        if both:
            raise DataError(
                f"The test prompts of {cell} must be unseen, but {len(both)} of them appear in {split} too, such as "
                f"{both[0]!r}; remove them from one of the two."
            )


def refuse_unmeasured(world: MethodWorld, cell: str, metrics: Iterable[str]) -> None:
    """A metric of the plan must exist in every cell.

    Raises:
        ConfigError: names the first measure that the world does not have.
    """
    known = world.measures() if isinstance(world, Measuring) else ()
    for name in metrics:
        if name not in known:
            raise ConfigError(
                f"`metric` must be measured in every cell, but {cell} has no {name}; "
                + (f"it has {', '.join(known)}." if known else "it measures gold and KL alone.")
            )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}."
