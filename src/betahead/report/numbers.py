"""Numbers as a page shows them, and lists cut to what a page can hold."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

T = TypeVar("T")

NONE = "–"
_DIGITS = 6


def finite(value: Any) -> float | None:
    """The number, or None for what is none: also for the texts "nan" and "inf" that stand in JSON for them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond float64
        return None
    return number if math.isfinite(number) else None


def shown(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, a real minus sign, and no exponent between 0.0001 and 10¹²."""
    number = finite(value)
    if number is None:
        return NONE
    size = abs(number)
    if size >= 10 ** min(digits, 3) and size < 1e12:
        text = f"{number:,.0f}"
    elif size == 0.0 or 1e-4 <= size < 1e12:
        decimals = digits - 1 - (math.floor(math.log10(size)) if size else 0)
        text = f"{number:.{max(0, decimals)}f}"
    else:
        text = f"{number:.{digits}g}"
    return text.replace("-", "−")


def count(value: Any) -> str:
    """A whole number with its thousands apart."""
    number = finite(value)
    return NONE if number is None else f"{number:,.0f}"


def share(value: Any) -> str:
    """A share in percent."""
    number = finite(value)
    return NONE if number is None else f"{100 * number:.0f}%"


def interval(value: Any) -> str:
    """An estimate with its bounds, where it has some."""
    if not isinstance(value, Mapping):
        return NONE
    found = cast("Mapping[str, Any]", value)
    low, high = finite(found.get("low")), finite(found.get("high"))
    estimate = shown(found.get("estimate"))
    return estimate if low is None or high is None else f"{estimate} [{shown(low)}, {shown(high)}]"


def rounded(value: Any) -> Any:
    """A number as the page's data hold it, six significant digits; None for a number that is not finite."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    return value


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spread, first and last among them."""
    if len(items) <= most:
        return list(items)
    last, steps = len(items) - 1, max(1, most - 1)
    return [items[round(step * last / steps)] for step in range(steps + 1)]


def quantile(ordered: Sequence[float], level: float) -> float:
    """A quantile of ordered numbers, linear between neighbours."""
    at = level * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (at - below) * (ordered[above] - ordered[below])


def cut(text: str, most: int) -> str:
    """The text, or its beginning and how much was left out."""
    if len(text) <= most:
        return text
    return f"{text[:most].rstrip()} … ({len(text) - most:,} more characters)"
