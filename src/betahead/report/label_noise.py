"""The effect of a test by the planted label noise of the topics."""

from typing import Any

from betahead.report.evidence_file import PLACEBO, EvidenceFile, bounds
from betahead.report.figures import Figure, Panel, Trace, axis, line, marker, plotly_text
from betahead.report.html import Html, element


def noise_sweep(evidence: EvidenceFile) -> Html:
    """By how much A is better than B on topics of each planted label noise."""
    rows = [
        row
        for row in evidence.rows("label_noise", "cell", "a", "b", "noise", "effect")
        if bounds(row["effect"])[0] is not None
    ]
    if not rows:
        return element(
            "p", "The topics of these cells do not differ in label noise, so there is no sweep.", class_="note"
        )
    columns: dict[str, list[Any]] = {
        name: [] for name in ("cell", "a", "b", "noise", "topics", "effect", "low", "high", "up", "down")
    }
    pairs = list(dict.fromkeys((str(row["a"]), str(row["b"])) for row in rows))
    others = any(not b.startswith(PLACEBO) for _, b in pairs)
    panels: list[Panel] = []
    for cell in evidence.cells:
        traces: list[Trace] = []
        for number, (a, b) in enumerate(pairs):
            here = sorted(
                (row for row in rows if (row["cell"], row["a"], row["b"]) == (cell, a, b)), key=lambda row: row["noise"]
            )
            start = len(columns["cell"])
            for row in here:
                estimate, low, high = bounds(row["effect"])
                up, down = (None if end is None or estimate is None else abs(end - estimate) for end in (high, low))
                values = (cell, a, b, row["noise"], row.get("topics"), estimate, low, high, up, down)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
            if len(columns["cell"]) > start:
                traces.append(
                    _sweep(a, b, number, (start, len(columns["cell"])), hidden=b.startswith(PLACEBO) and others)
                )
        if traces:
            panels.append(Panel(label=cell, traces=traces))
    several = [
        number
        for number, panel in enumerate(panels)
        if any(trace.rows[1] - trace.rows[0] > 1 for trace in panel.traces)
    ]
    return Figure(
        name="label-noise",
        title="Effect by label noise",
        caption=(
            "By how much A is better than B on the test prompts of topics with that share of turned labels, in the "
            "runs of the tests above."
        ),
        columns=columns,
        heads={
            "cell": "cell",
            "a": "A",
            "b": "B",
            "noise": "label noise (share)",
            "topics": "topics",
            "effect": "effect",
            "low": "low",
            "high": "high",
        },
        panels=panels,
        layout={
            "xaxis": axis("label noise (share of turned labels)", tickformat=".0%"),
            "yaxis": axis(
                f"{evidence.metric}: by how much A is better",
                zeroline=True,
                zerolinewidth=1.5,
            ),
        },
        height=420,
        choice="cell",
        start=several[0] if several else 0,
    ).html()


def _sweep(a: str, b: str, number: int, span: tuple[int, int], *, hidden: bool) -> Trace:
    colour = line(number)["color"]
    return Trace(
        name=f"{a} − {b}",
        rows=span,
        take={"x": "noise", "y": "effect", "error_y.array": "up", "error_y.arrayminus": "down"},
        style={
            "type": "scatter",
            "mode": "lines+markers",
            "line": line(number),
            "marker": marker(number, size=8),
            "error_y": {"type": "data", "symmetric": False, "thickness": 1.3, "width": 0, "color": colour},
            "hovertemplate": f"{plotly_text(f'{a} − {b}')}<br>noise %{{x:.0%}}: %{{y:.3~g}}<extra></extra>",
        },
        hidden=hidden,
    )
