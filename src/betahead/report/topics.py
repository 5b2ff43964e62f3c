"""β per topic against the oracle's."""

from typing import Any

from betahead.report.evidence_file import EvidenceFile
from betahead.report.figures import Figure, Panel, Trace, axis, log_axis, marker, plotly_text
from betahead.report.html import Html, element
from betahead.report.numbers import finite


def beta_by_topic(evidence: EvidenceFile) -> Html:
    """Each method's β of a topic against the oracle's β of it; along the topics where no method knows the truth."""
    rows = [
        row for row in evidence.rows("beta", "cell", "method", "topic", "beta") if (finite(row["beta"]) or 0.0) > 0.0
    ]
    if not rows:
        return element("p", "This evidence holds no β per topic.", class_="note")
    oracle = evidence.oracle if any(row["method"] == evidence.oracle for row in rows) else None
    columns: dict[str, list[Any]] = {name: [] for name in ("cell", "method", "topic", "oracle", "beta", "hover")}
    panels: list[Panel] = []
    for cell in evidence.cells:
        here = [row for row in rows if row["cell"] == cell]
        truth = {row["topic"]: row["beta"] for row in here if row["method"] == oracle}
        if (oracle is not None and not truth) or not here:
            continue
        traces: list[Trace] = []
        if truth:
            ends = [min(truth.values()), max(truth.values())]
            start = len(columns["beta"])
            for end in ends if ends[0] < ends[1] else [ends[0] / 1.5, ends[0] * 1.5]:
                _append(columns, cell, "the diagonal", None, end, end)
            traces.append(_diagonal((start, len(columns["beta"]))))
        for method in evidence.methods:
            number = evidence.number(method)
            if method == oracle:
                continue
            start = len(columns["beta"])
            for row in here:
                if row["method"] == method:
                    _append(columns, cell, method, row["topic"], truth.get(row["topic"]), row["beta"])
            if len(columns["beta"]) > start:
                traces.append(_dots(method, number, (start, len(columns["beta"])), evidence, against=bool(truth)))
        panels.append(Panel(label=cell, traces=traces))
    if not panels:
        return element("p", "This evidence holds no β per topic.", class_="note")
    horizontal = (
        log_axis("β of the oracle", [row["beta"] for row in rows if row["method"] == oracle])
        if oracle
        else axis("topic", dtick=1)
    )
    return Figure(
        name="beta-by-topic",
        title="β per topic against the oracle's" if oracle else "β per topic",
        caption=(
            (
                "One mark for each topic at the end of the finals, the geometric mean over runs. On the dotted line "
                "a method gives a topic the β that a search with the truth in hand gave it; what counts is the "
                "order of the topics, because each method tunes its own level."
            )
            if oracle
            else (
                "One mark for each topic at the end of the finals, the geometric mean over runs. No method of this "
                "plan knows the truth to compare with."
            )
        ),
        columns=columns,
        heads={
            "cell": "cell",
            "method": "method",
            "topic": "topic",
            **({"oracle": "β of the oracle"} if oracle else {}),
            "beta": "β",
        },
        panels=panels,
        layout={"xaxis": horizontal, "yaxis": log_axis("β of the method", [row["beta"] for row in rows])},
        height=440,
        choice="cell",
    ).html()


def _append(
    columns: dict[str, list[Any]], cell: str, method: str, topic: Any, oracle: float | None, beta: float
) -> None:
    words = plotly_text(method) if topic is None else f"{plotly_text(method)}, topic {plotly_text(str(topic))}"
    for column, value in zip(columns.values(), (cell, method, topic, oracle, beta, words), strict=True):
        column.append(value)


def _diagonal(span: tuple[int, int]) -> Trace:
    style = {
        "type": "scatter",
        "mode": "lines",
        "line": {"color": "$quiet", "dash": "dot", "width": 1.2},
        "hoverinfo": "skip",
    }
    return Trace(name="same β as the oracle", rows=span, take={"x": "oracle", "y": "beta"}, style=style)


def _dots(method: str, number: int, span: tuple[int, int], evidence: EvidenceFile, *, against: bool) -> Trace:
    return Trace(
        name=method,
        rows=span,
        take={"x": "oracle" if against else "topic", "y": "beta", "text": "hover"},
        style={
            "type": "scatter",
            "mode": "markers",
            "marker": marker(number, size=9, opacity=0.85),
            "hovertemplate": "%{text}<br>β %{y:.3~g}<extra></extra>",
        },
        hidden=method not in evidence.prominent,
    )
