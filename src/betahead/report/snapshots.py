"""Snapshots of the held-out prompts as figures take them: by progress, by domain, as columns."""

from collections.abc import Sequence
from typing import Any

from betahead.report.figures import SYMBOLS, hover_text
from betahead.report.numbers import finite
from betahead.report.run_files import Row

MOST_PROMPTS = 600
"""Of each snapshot, over all runs of the page."""

LOG_FROM = 5.0
"""The largest β over the smallest from which an axis of β is logarithmic."""

_MOST_DOMAINS = len(SYMBOLS)
_MOST_PROMPT = 160


def append_prompt(columns: dict[str, list[Any]], row: Row, progress: float) -> None:
    """Put a row's values at the end of the columns that want them."""
    values = {
        "done": progress,
        "prompt": _short(str(row["prompt"])),
        "domain": domain_of(row),
        "hover": hover_text(str(row["prompt"])),
        **{name: finite(row[name]) for name in ("log_ppl", "beta", "f", "margin", "pc1", "pc2")},
    }
    for name, column in columns.items():
        column.append(values[name])


def by_progress(rows: Sequence[Row]) -> list[tuple[float, list[Row]]]:
    """The snapshots in their order, each with its share of training."""
    marks = sorted({finite(row["progress"]) or 0.0 for row in rows})
    return [(mark, [row for row in rows if (finite(row["progress"]) or 0.0) == mark]) for mark in marks]


def domain_of(row: Row) -> str:
    """The domain of a pair, "" for none."""
    return str(row["domain"] or "")


def domains(rows: Sequence[Row]) -> list[str | None]:
    """The domains, or [None] for all in one where there is one, or too many to tell apart."""
    found = sorted({domain_of(row) for row in rows})
    return [None] if len(found) == 1 or len(found) > _MOST_DOMAINS else [*found]


def percent(progress: float) -> str:
    """What a snapshot is called."""
    return f"{progress:.0%}"


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= _MOST_PROMPT else f"{prompt[:_MOST_PROMPT]} …"
