"""Tables of the report in Markdown, and how numbers stand in them."""

from collections.abc import Iterable, Sequence

from betahead.compare.evidence import TestRecord
from betahead.compare.panel_records import IntervalRecord

Row = Sequence[str]


def table(heads: Row, rows: Iterable[Row]) -> str:
    """A table with a line of heads."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def settled_by(one: TestRecord) -> str:
    """The finals that would settle a test under three truths; nothing where it is settled."""
    settle = one.finals_to_settle
    if settle is None:
        return ""
    found = (settle.if_zero, settle.if_twice_rope, settle.if_as_seen)
    return " · ".join("–" if finals is None else f"{finals}" for finals in found)


def shown(record: IntervalRecord) -> str:
    """An estimate, with its interval where it has one."""
    if record.low is None or record.high is None:
        return f"{record.estimate:.4f}"
    return f"{record.estimate:.4f} [{record.low:.4f}, {record.high:.4f}]"
