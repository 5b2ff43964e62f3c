"""The settings of a BetaHead: their names, kinds and ranges."""

import math
from typing import Any, Literal, get_args

from betahead.beta.nets import NET_NEEDS, NetKind
from betahead.beta.rule import Need
from betahead.errors import ConfigError

Form = Literal["banded", "direct"]
Exponent = float | Literal["learned"]


_ROOM = 1e12
"""Squares, products and ratios of a few numbers up to it and down to its inverse are still numbers of float32."""


def one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ConfigError: with the choices.
    """
    if value not in choices:
        raise ConfigError(f"`beta.{key}` must be one of {', '.join(choices)}, but is {value!r} instead.")


def number(key: str, value: Any, wanted: str, least: float, most: float = math.inf, *, inside: bool = True) -> float:
    """The value as a finite float between its bounds, and within what float32 can square, divide by and multiply.

    Args:
        key: its name under `beta`.
        value: what was given.
        wanted: the range in words, for the message.
        least: smallest value.
        most: not reached.
        inside: `least` itself is allowed.

    Raises:
        ConfigError: for anything that is no number (True is none), or one out of range.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not least <= value < most or (value == least and not inside):
        raise ConfigError(f"`beta.{key}` must be {wanted}, but is {value!r} instead.")
    if abs(value) > _ROOM:
        raise ConfigError(f"`beta.{key}` must be {wanted} and at most 1e12 in size, but is {value!r} instead.")
    # Nothing is divided by a rate, and one that moves nothing is a way to hold still.
    if least == 0 and not inside and value < 1 / _ROOM and not key.endswith("rate"):
        raise ConfigError(f"`beta.{key}` must be {wanted} and at least 1e-12, but is {value!r} instead.")
    return float(value)


def whole(key: str, value: Any) -> int:
    """The value as a whole number of at least 1.

    Raises:
        ConfigError: for anything else; True is no number.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"`beta.{key}` must be a whole number of at least 1, but is {value!r} instead.")
    return value


def within(key: str, value: float, **bounds: float) -> None:
    """Refuse a value outside of two settings, and these where they are no positive numbers.

    Args:
        key: its name under `beta`.
        value: a number.
        bounds: the lower and the upper one, by their names under `beta`.

    Raises:
        ConfigError: with all three, or with the bound.
    """
    (low_key, low), (high_key, high) = bounds.items()
    for bound_key, bound in bounds.items():
        number(bound_key, bound, "a positive number", 0, inside=False)
    if not low <= value <= high:
        raise ConfigError(
            f"`beta.{key}` must be within `beta.{low_key}` and `beta.{high_key}`, {low} and {high}, but is {value} "
            "instead."
        )


def floor_under(initial_beta: float, floor: Any) -> float:
    """The smallest β of a rule that begins at another.

    Raises:
        ConfigError: for one that is not positive, or that would hold β above where it begins.
    """
    least = number("floor", floor, "a positive number", 0, inside=False)
    if least > initial_beta:
        raise ConfigError(
            f"`beta.floor` must be at most `beta.initial_beta`, {initial_beta}, but is {floor!r} instead."
        )
    return least


def check_head(
    *, net: Any, form: Any, initial_beta: Any, max_correction: Any, ppl_exponent: Any, bounds: Any
) -> tuple[float, float]:
    """The bounds, once all settings of a head are known to be usable.

    Raises:
        ConfigError: for the first one that is not.
    """
    one_of("net", net, get_args(NetKind))
    one_of("form", form, get_args(Form))
    beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
    number("max_correction", max_correction, "in [0, 1)", 0, 1)
    if ppl_exponent != "learned":
        number("ppl_exponent", ppl_exponent, "a finite number or 'learned'", -math.inf)
    return checked_bounds(bounds, beta)


def checked_bounds(bounds: Any, initial_beta: float) -> tuple[float, float]:
    """The bounds of β, once they are known to hold the β that it begins at.

    Raises:
        ConfigError: for anything else.
    """
    numbers = [x for x in bounds if isinstance(x, int | float)] if isinstance(bounds, tuple | list) else []
    if len(numbers) != 2 or len(bounds) != 2 or not 0 < numbers[0] <= initial_beta <= numbers[1] < math.inf:
        shown = list(bounds) if isinstance(bounds, tuple) else bounds
        raise ConfigError(
            f"`beta.bounds` must be two numbers with 0 < low <= initial_beta <= high, but are {shown} around "
            f"{initial_beta} instead."
        )
    if numbers[0] < 1 / _ROOM or numbers[1] > _ROOM:
        raise ConfigError(f"`beta.bounds` must be from 1e-12 to 1e12, but are {list(bounds)} instead.")
    return float(numbers[0]), float(numbers[1])


def head_needs(net: NetKind, form: Form, max_correction: float, ppl_exponent: Exponent) -> frozenset[Need]:
    """The prompt features that a head of these settings reads, known before there is one.

    Source:
        This package.
    """
    needs = {NET_NEEDS[net]} if corrects(form, max_correction) else set[Need]()
    return frozenset(needs | {Need.LOG_PPL}) if form == "direct" or ppl_exponent != 0.0 else frozenset(needs)


def corrects(form: Form, max_correction: float) -> bool:
    """Whether a head of these settings has a network: a band of width 0 needs none."""
    return form == "direct" or max_correction > 0.0
