"""One raw row of a source, and the sentence that says why a row cannot be used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from betahead.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Row:
    """The values of one row and where they stand, such as `pairs.jsonl:17`."""

    values: Mapping[str, Any]
    where: str


class RowError(DataError):
    """A row that can be skipped: the message is complete by itself, `reason` is what rows are counted by.

    Args:
        reason: a short phrase that is the same for all rows with this fault.
        where: file and line of the row.
        sentence: what must hold, what was found and the remedy.
    """

    def __init__(self, reason: str, where: str, sentence: str) -> None:
        super().__init__(f"{where}: {sentence}")
        self.reason = reason
        self.where = where
        self._sentence = sentence

    def __reduce__(self) -> tuple[type["RowError"], tuple[str, str, str]]:
        # Exceptions are rebuilt from their message alone; rows that other processes read come back pickled.
        return RowError, (self.reason, self.where, self._sentence)


def column(row: Row, name: str) -> Any:
    """The value of a column of the row.

    Raises:
        RowError: the row has no such column, or null in it.
    """
    value = row.values.get(name)
    if value is None:
        found = named(key for key in row.values if row.values[key] is not None) or "no value at all"
        raise RowError(
            f"missing `{name}`",
            row.where,
            f"`{name}` must be given, but the row has {found} only; add the column or choose another `data.layout`.",
        )
    return value


def text(value: Any, name: str, where: str) -> str:
    """The value, once it is known to be text that can be encoded.

    Raises:
        RowError: not a string, or a string that holds half of a surrogate pair (JSON allows it, UTF-8 does not).
    """
    if not isinstance(value, str):
        raise RowError(
            f"`{name}` is not text",
            where,
            f"`{name}` must be text, but is {shown(value)} instead; write it as a string.",
        )
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise RowError(
                f"`{name}` is not valid Unicode",
                where,
                f"`{name}` must be valid Unicode, but holds {half}, half of a surrogate pair, instead; "
                "remove that character.",
            ) from None
    return value


def number(value: Any, name: str, where: str) -> float:
    """The value as a number, also of a text that holds one, as in CSV; NaN and infinities pass.

    Raises:
        RowError: no number, or one beyond those of float64.
    """
    try:
        found = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None:
        raise RowError(
            f"`{name}` is not a number",
            where,
            f"`{name}` must be a finite number, but is {shown(value)} instead; correct it or remove the column.",
        )
    return found


def shown(value: Any, *, limit: int = 60) -> str:
    """The value as an error shows it: its literal, shortened, and its type, such as `3 (int)`."""
    literal = _literal(value, limit)
    if len(literal) > limit:
        literal = literal[: limit - 1] + "…"
    return f"{literal} ({type(value).__name__})"


def _literal(value: Any, limit: int) -> str:
    # Of a text of megabytes only the beginning is shown, and only that is written out.
    part = value[:limit] if isinstance(value, str | bytes | list | tuple) else value
    try:
        return repr(part)
    except RecursionError:
        return "nested too deeply to be shown"
    except ValueError:  # of an integer with thousands of digits
        return "too long to be shown"


def named(names: Iterable[Any], *, most: int = 12) -> str:
    """Names of columns as an error lists them, such as `prompt`, `chosen`; of very many or long ones only a part."""
    given = iter(names)
    first = [f"`{cut(str(name))}`" for name in islice(given, most)]
    return ", ".join([*first, "…"] if next(given, None) is not None else first)


def cut(name: str, limit: int = 60) -> str:
    """The name, shortened where it is longer than names are."""
    return name if len(name) <= limit else name[: limit - 1] + "…"
