"""f over the plane in which the hidden states of the prompts differ most."""

from typing import Any

from betahead.report.figures import Figure, Panel, Trace, around, axis
from betahead.report.numbers import finite, thinned
from betahead.report.run_files import RunFiles
from betahead.report.snapshots import append_prompt, by_progress, percent

# Light and dark pages both show its ends, and its lightness rises, so that it needs no hue.
_COLOURS = [[0.0, "#3a6ea5"], [0.5, "#b5739d"], [1.0, "#f0b95a"]]


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
    for progress, snapshot in by_progress(rows):
        start = len(columns["pc1"])
        for row in thinned(snapshot, most):
            append_prompt(columns, row, progress)
        least, most_ = _scale([row[value] for row in snapshot if finite(row[value]) is not None])
        shade = {
            "size": 9,
            "colorscale": _COLOURS,
            "cmin": least,
            "cmax": most_,
            "line": {"width": 0.6, "color": "$card"},
            "colorbar": {
                "title": {"text": word},
                "thickness": 10,
                "outlinewidth": 0,
                "len": 0.9,
                "tickformat": ".4~g",
                "nticks": 5,
            },
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
            f"{word}, on a scale of its own at each share of training. The components are those before training, so "
            "prompts can be followed."
        ),
        columns=columns,
        heads={
            "done": "share of training",
            "prompt": "prompt",
            "domain": "domain",
            "pc1": "first component (units of the hidden state)",
            "pc2": "second component (units of the hidden state)",
            "f": "f",
            "beta": "β",
        },
        panels=panels,
        layout={
            "xaxis": axis(
                "first principal component (units of the hidden state)", range=around([row["pc1"] for row in rows])
            ),
            "yaxis": axis(
                "second principal component (units of the hidden state)", range=around([row["pc2"] for row in rows])
            ),
        },
        height=430,
        choice="share of training",
        start=len(panels) - 1,
    )


def _scale(values: list[float]) -> tuple[float, float]:
    """Ends of the colours: those of the values, but never so near that rounding is shown as a difference."""
    low, high = min(values), max(values)
    room = max(0.0, 0.01 * abs(high) - (high - low)) / 2
    return low - room, high + room
