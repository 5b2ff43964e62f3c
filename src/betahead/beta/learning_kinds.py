"""The ways of learning by name, and how one is made from what the user said."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

from betahead.beta.budget import BudgetLearning
from betahead.beta.frozen import FrozenLearning
from betahead.beta.head_settings import one_of
from betahead.beta.heldout_learning import HeldOutLearning
from betahead.beta.joint import JointLearning
from betahead.beta.learning import LearningMode
from betahead.beta.perspective_learning import PerspectiveLearning
from betahead.errors import ConfigError

Learning = Literal["joint", "perspective", "heldout", "budget", "none"]

LEARNING: Mapping[str, type[LearningMode]] = MappingProxyType(
    {mode.kind: mode for mode in (JointLearning, PerspectiveLearning, HeldOutLearning, BudgetLearning, FrozenLearning)}
)
"""One line for each way of learning; the keys are those of `Learning`."""

BESIDE = frozenset({"prior_weight", "prior_on"})
"""Settings that lie beside `learning` in a config, not in it."""


def learning_named(learning: Learning | Mapping[str, Any], **given: Any) -> LearningMode:
    """The way of learning with its settings.

    Args:
        learning: its kind, or a mapping of `kind` and settings.
        given: settings of any of the ways of learning; None is not given.

    Raises:
        ConfigError: for a kind that does not exist, a setting out of range, or one that does not apply.
    """
    mapped = cast("Any", learning)
    said: dict[str, Any] = {**given, **mapped} if isinstance(mapped, Mapping) else {**given, "kind": learning}
    kind = said.pop("kind", None)
    one_of("learning.kind", kind, get_args(Learning))
    said = {name: value for name, value in said.items() if value is not None}
    if kind == BudgetLearning.kind:
        return _budget(said)
    _check_apply(said, LEARNING[kind].own, "learning.kind")
    return LEARNING[kind](**said)


def _budget(said: dict[str, Any]) -> BudgetLearning:
    kind = said.get("allocation", "perspective")
    one_of("learning.allocation", kind, tuple(name for name in LEARNING if name != BudgetLearning.kind))
    allocation = LEARNING[kind]
    _check_apply(said, (*BudgetLearning.own, *allocation.own), "learning.allocation")
    within = {name: value for name, value in said.items() if name in allocation.own}
    if allocation is JointLearning and within.setdefault("prior_on", "each") != "each":
        raise ConfigError(
            "`beta.prior_on` must be each with learning.kind: budget, because the budget sets the level, but is "
            f"{within['prior_on']!r} instead."
        )
    own: dict[str, Any] = {name: value for name, value in said.items() if name in BudgetLearning.own}
    if "target_kl" not in own:
        raise ConfigError(
            "`beta.learning.target_kl` must be given with learning.kind: budget; say how many nats per answer the "
            "policy may move."
        )
    own["allocation"] = allocation(**within)
    return BudgetLearning(**own)


def _check_apply(said: Mapping[str, Any], own: tuple[str, ...], chosen_by: str) -> None:
    """Refuse settings that belong to another way of learning.

    Raises:
        ConfigError: for the first one, with where it would apply.
    """
    for name, value in said.items():
        if name in own:
            continue
        key = f"beta.{name}" if name in BESIDE else f"beta.learning.{name}"
        kinds = [kind for kind, mode in LEARNING.items() if name in mode.own]
        if not kinds:
            raise ConfigError(f"`{key}` must be left out, because no learning.kind has it, but is {value!r} here.")
        raise ConfigError(
            f"`{key}` applies only with {chosen_by}: {' or '.join(kinds)}, but is {value!r} here; remove it."
        )
