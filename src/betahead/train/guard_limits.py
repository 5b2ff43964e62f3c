"""How much a guard lets pass before it says something."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast

from betahead.errors import ConfigError

OnWarning = Literal["warn", "stop"]
ON_WARNING = ("warn", "stop")


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """The limits of the guards, by their names; a guard whose limit is None does not look.

    Args:
        patience: log lines in a row beyond a limit before a guard speaks.
        at_bound: share of the pairs whose β lies on one of its bounds, in (0, 1].
        constant: spread of β over its mean, below which a β that had a spread ten times as large is a constant.
        falling: nats by which the log-probabilities of chosen and of rejected answers have both fallen against the
            reference, per answer.
        kl: nats per answer between policy and reference: the rule's own estimate where it makes one, else the mean of
            −log π/π_ref over both answers of the pairs.
        prompt_drift: nats per token by which log PPL of the prompts has left its mean over the first `patience` lines,
            while gradient flows from β into it.
        first_margin: nats by which policy and reference may differ before the first step, in float32; a thousand times
            as many where weights or arithmetic are of half precision.
        level_factor: factor by which a level of β that nothing bounds has left its start; said again at every power.
    """

    patience: int = 5
    at_bound: float | None = 0.5
    constant: float | None = 1e-3
    falling: float | None = 30.0
    kl: float | None = 100.0
    prompt_drift: float | None = 0.5
    first_margin: float | None = 1e-3
    level_factor: float | None = 10.0

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Self:
        """The limits that are given, the others at their defaults.

        Raises:
            ConfigError: for a name that no guard has, or a limit that makes no sense.
        """
        value = cast("Any", given)
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"`guards` must be limits by name or None, but is {value!r} instead.")
        known = [field.name for field in dataclasses.fields(cls)]
        for key, limit in (given or {}).items():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                remedy = f"did you mean `{near[0]}`?" if near else f"the guards are {', '.join(known[1:])}."
                raise ConfigError(f"`guards.{key}` must be the limit of a guard, but is of none; {remedy}")
            _check(key, limit)
        return cls(**(given or {}))


def check_on_warning(value: Any) -> None:
    """Refuse a reaction to warnings that does not exist.

    Raises:
        ConfigError: with those that do.
    """
    if value not in ON_WARNING:
        raise ConfigError(f"`on_warning` must be one of {', '.join(ON_WARNING)}, but is {value!r} instead.")


def _check(key: str, limit: Any) -> None:
    if key == "patience":
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ConfigError(f"`guards.patience` must be a whole number of at least 1, but is {limit!r} instead.")
        return
    least = 1.0 if key == "level_factor" else 0.0
    most = 1.0 if key == "at_bound" else math.inf
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if limit is not None and not (number and least < limit <= most and math.isfinite(limit)):
        end = " and at most 1" if most == 1.0 else ""
        raise ConfigError(f"`guards.{key}` must be a number above {least:g}{end}, or None, but is {limit!r} instead.")
