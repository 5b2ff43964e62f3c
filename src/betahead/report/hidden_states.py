"""f over the plane in which the hidden states of the prompts differ most."""

from typing import Any

from betahead.report.figures import Figure, Panel, Trace, around, axis
from betahead.report.numbers import finite, thinned
from betahead.report.run_files import RunFiles
from betahead.report.snapshots import append_prompt, by_progress, percent


def hidden_states(run: RunFiles, number: int, most: int) -> Figure | None:
    """f, or β where there is no f, over the first two principal components of the prompts' hidden states."""
    rows = [row for row in run.prompts if finite(row["pc1"]) is not None and finite(row["pc2"]) is not None]
    if not rows or all(row["pc1"] == row["pc2"] == 0.0 for row in rows):
        return None
    value = "f" if any(finite(row["f"]) is not None for row in rows) else "beta"
    word = "f" if value == "f" else "β"
    columns: dict[str, list[Any]] = {
        name: [] for name in ("done", "prompt", "domain", "pc1", "pc2", "f", "beta", "hover")
    }
    panels: list[Panel] = []
    known = [row[value] for row in rows if finite(row[value]) is not None]
    for progress, snapshot in by_progress(rows):
        start = len(columns["pc1"])
        for row in thinned(snapshot, most):
            append_prompt(columns, row, progress)
        shade = {
            "size": 9,
            "colorscale": "Cividis",
            "cmin": min(known),
            "cmax": max(known) if max(known) > min(known) else min(known) + 1e-9,
            "line": {"width": 0.6, "color": "$card"},
            "colorbar": {"title": {"text": word}, "thickness": 10, "outlinewidth": 0, "len": 0.9, "tickformat": ".3~g"},
        }
        trace = Trace(
            name="held-out prompts",
            rows=(start, len(columns["pc1"])),
            take={"x": "pc1", "y": "pc2", "marker.color": value, "text": "hover"},
            style={
                "type": "scatter",
                "mode": "markers",
                "marker": shade,
                "hovertemplate": f"%{{text}}<br><br>{word} %{{marker.color:.4~g}}<extra></extra>",
            },
        )
        panels.append(Panel(label=percent(progress), traces=[trace]))
    return Figure(
        name=f"hidden-states-{number}",
        title=f"{word} over the hidden states",
        caption=(
            "Each held-out prompt at the first two principal components of its last hidden state; its colour is "
            f"{word}. The components are those before training, so prompts can be followed."
        ),
        columns=columns,
        heads={
            "done": "share of training",
            "prompt": "prompt",
            "domain": "domain",
            "pc1": "first component",
            "pc2": "second component",
            "f": "f",
            "beta": "β",
        },
        panels=panels,
        layout={
            "xaxis": axis(
                "first principal component (units of the hidden state)", range=around([row["pc1"] for row in rows])
            ),
            "yaxis": axis("second principal component", range=around([row["pc2"] for row in rows])),
        },
        height=430,
        choice="share of training",
        start=len(panels) - 1,
    )
