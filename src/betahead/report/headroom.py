"""The headroom that learned methods captured, where the oracle wins something."""

from typing import Any

from betahead.report.evidence_file import EvidenceFile, bounds
from betahead.report.figures import INTERVALS, Figure, Panel, Trace, axis, intervals, marker, plotly_text
from betahead.report.html import Html, element, joined
from betahead.report.numbers import interval, share
from betahead.report.run_files import Row
from betahead.report.tables import details, table

_HEADS = ("cell", "method", "headroom (oracle − fixed)", "captured")


def headroom(evidence: EvidenceFile) -> Html:
    """(learned − fixed)/(oracle − fixed) in the cells where the oracle wins something."""
    rows = evidence.rows("headroom", "cell", "method", "headroom", "captured")
    if not rows:
        return element("p", "This plan names no oracle to measure headroom against.", class_="note")
    lines = [[str(row["cell"]), str(row["method"]), _room(row["headroom"]), _captured(row["captured"])] for row in rows]
    defined = [row for row in rows if bounds(row["captured"])[0] is not None]
    figure = _captures(evidence, defined).html() if defined else None
    cells = len({row["cell"] for row in rows})
    with_room = len({row["cell"] for row in defined})
    return joined(
        element(
            "p",
            (
                f"Headroom is there in {with_room} of {cells} cells; elsewhere the oracle wins less than is worth "
                "having, and there is nothing to capture."
            ),
        ),
        figure,
        details("All cells and methods", table(_HEADS, lines, numeric=(2, 3))),
    )


def _room(value: Any) -> str:
    found = bounds(value)
    return "none found" if found[0] == found[1] == found[2] == 0.0 else interval(value)


def _captured(value: Any) -> str:
    estimate, low, high = bounds(value)
    if estimate is None:
        return "undefined"
    return share(estimate) if low is None or high is None else f"{share(estimate)} [{share(low)}, {share(high)}]"


def _captures(evidence: EvidenceFile, rows: list[Row]) -> Figure:
    columns: dict[str, list[Any]] = {
        name: [] for name in ("cell", "method", "captured", "low", "high", "place", "up", "down", "hover")
    }
    methods = [method for method in evidence.methods if any(row["method"] == method for row in rows)]
    cells = [cell for cell in evidence.cells if any(row["cell"] == cell for row in rows)]
    traces: list[Trace] = []
    for order, method in enumerate(methods):
        start = len(columns["cell"])
        for row in rows:
            if row["method"] != method:
                continue
            estimate, low, high = bounds(row["captured"])
            assert estimate is not None
            place = len(cells) - 1 - cells.index(row["cell"]) + 0.32 - 0.64 * order / max(1, len(methods) - 1)
            up, down = (None if end is None else abs(end - estimate) for end in (high, low))
            words = plotly_text(f"{method} in {row['cell']}: {_captured(row['captured'])}")
            values = (row["cell"], method, estimate, low, high, place, up, down, words)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        number = evidence.number(method)
        traces.append(
            Trace(
                name=method,
                rows=(start, len(columns["cell"])),
                take={"x": "captured"} | INTERVALS,
                style=intervals(marker(number, size=8), 1.4),
            )
        )
    names = [cell.partition("/")[2] or cell for cell in reversed(cells)]
    return Figure(
        name="headroom",
        title="Headroom captured",
        caption=(
            "(learned − fixed)/(oracle − fixed) with 95% intervals: 0% is one tuned β, 100% the best allocation "
            "that a search with the truth found."
        ),
        columns=columns,
        heads={
            "cell": "cell",
            "method": "method",
            "captured": "captured (share of the headroom)",
            "low": "low",
            "high": "high",
        },
        panels=[Panel(label="", traces=traces)],
        layout={
            "xaxis": axis("share of the headroom captured", tickformat=".0%", zeroline=True, zerolinewidth=1.5),
            "yaxis": {
                "tickvals": list(range(len(names))),
                "ticktext": [plotly_text(name) for name in names],
                "range": [-0.6, len(names) - 0.4],
            },
        },
        height=120 + max(60, 17 * len(methods)) * len(cells),
    )
