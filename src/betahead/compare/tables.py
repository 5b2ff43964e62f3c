"""Tables of the report in Markdown, and how numbers stand in them."""

from collections.abc import Iterable, Sequence

from betahead.compare.panel_records import IntervalRecord

Row = Sequence[str]


def table(heads: Row, rows: Iterable[Row]) -> str:
    """A table with a line of heads."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(record: IntervalRecord) -> str:
    """An estimate, with its interval where it has one."""
    if record.low is None or record.high is None:
        return f"{record.estimate:.4f}"
    return f"{record.estimate:.4f} [{record.low:.4f}, {record.high:.4f}]"
