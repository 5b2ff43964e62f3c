"""What became of the rows of a source: one summary instead of a warning per row."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from betahead.data.rows import RowError
from betahead.errors import DataError

_PLACES_SHOWN = 3


@dataclass(kw_only=True)
class DroppedRows:
    """Rows that were dropped for one reason: how many, and where the first of them stand."""

    count: int = 0
    where: list[str] = field(default_factory=list[str])

    def places(self) -> str:
        """The first places, without the folder that all of them share."""
        return ", ".join(where.rpartition("/")[2] for where in self.where) + (
            ", …" if self.count > len(self.where) else ""
        )


@dataclass(kw_only=True)
class DataSummary:
    """Counts of what was read, kept and dropped.

    Args:
        source: how the source is called.
        layout: the layout it was read as.
        rows: rows in the source.
        kept: pairs that can be trained on.
        dropped: per reason, the rows that were left out.
        boundary: kept pairs of which an answer was tokenized by itself: a token would have spanned the boundary.
        cut: kept pairs of which an answer was cut to fit `max_length`.
        reopened: kept pairs of which an answer's `<think>` was left out, because the prompt already ends with it.
    """

    source: str
    layout: str
    rows: int = 0
    kept: int = 0
    dropped: dict[str, DroppedRows] = field(default_factory=dict[str, DroppedRows])
    boundary: int = 0
    cut: int = 0
    reopened: int = 0

    def drop(self, error: RowError) -> None:
        """Count a row that cannot be used."""
        rows = self.dropped.setdefault(error.reason, DroppedRows())
        rows.count += 1
        if len(rows.where) < _PLACES_SHOWN:
            rows.where.append(error.where)

    @property
    def dropped_rows(self) -> int:
        """Number of rows dropped for any reason."""
        return sum(rows.count for rows in self.dropped.values())

    def reasons(self) -> str:
        """The reasons, the most frequent first: `3 × empty answer (pairs.jsonl:2, pairs.jsonl:7, …)`."""
        ordered = sorted(self.dropped.items(), key=lambda item: -item[1].count)
        return ", ".join(f"{rows.count} × {reason} ({rows.places()})" for reason, rows in ordered)

    def line(self) -> str:
        """The summary in one line."""
        notes = [f"{self.source}: {self.kept:,} of {self.rows:,} rows kept (layout `{self.layout}`)"]
        if self.dropped:
            notes.append(f"dropped {self.reasons()}")
        if self.cut:
            notes.append(f"{self.cut:,} with an answer cut to `max_length`")
        if self.boundary:
            notes.append(f"{self.boundary:,} with an answer tokenized by itself at the prompt's boundary")
        if self.reopened:
            notes.append(f"{self.reopened:,} whose `<think>` the prompt already holds")
        return "; ".join(notes)

    def check(self, max_dropped: float, first: Sequence[RowError]) -> None:
        """Refuse a source of which too much was dropped.

        Args:
            max_dropped: the share of rows that may be dropped.
            first: errors of which the first is quoted whole.

        Raises:
            DataError: nothing was kept, or more than this share was dropped.
        """
        if self.kept and self.dropped_rows <= max_dropped * self.rows:
            return
        if not self.kept and len(self.dropped) == 1 and self.rows == 1:
            raise DataError(f"{first[0]}")
        allowed, rows, raised = ", but ", " rows", ""
        if self.kept:
            allowed = f": at most {max_dropped:.0%} of its rows may be dropped (`data.max_dropped`), but "
            rows, raised = "", ", or raise `data.max_dropped`"
        raise DataError(
            f"{self.source} must hold usable preference pairs{allowed}{self.dropped_rows:,} of {self.rows:,}{rows} "
            f"cannot be used, {self.reasons()}; correct or remove these rows{raised} (the first one: "
            f"{str(first[0]).rstrip('.')})."
        )

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, for JSON."""
        return {
            "source": self.source,
            "layout": self.layout,
            "rows": self.rows,
            "kept": self.kept,
            "dropped": {reason: {"count": rows.count, "where": rows.where} for reason, rows in self.dropped.items()},
            "boundary": self.boundary,
            "cut": self.cut,
            "reopened": self.reopened,
        }
