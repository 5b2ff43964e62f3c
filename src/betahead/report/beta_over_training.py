"""β of the held-out prompts from the beginning of training to its end."""

from typing import Any

from betahead.report.figures import Figure, Panel, Trace, around, axis, log_axis
from betahead.report.numbers import quantile, thinned
from betahead.report.run_files import RunFiles
from betahead.report.snapshots import LOG_FROM

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_STEPS = 2000


def over_training(run: RunFiles, number: int) -> Figure:
    """Quantiles of β over held-out prompts at each snapshot, and the level of β in training."""
    rows: list[tuple[int, list[float]]] = []
    for step in sorted({row["step"] for row in run.prompts}):
        ordered = sorted(row["beta"] for row in run.prompts if row["step"] == step)
        rows.append((step, [quantile(ordered, level) for level in _LEVELS]))
    names = [f"q{round(100 * level)}" for level in _LEVELS]
    logged = thinned(run.logged("beta/level"), _MOST_STEPS)
    columns: dict[str, list[Any]] = {
        "step": [step for step, _ in rows] + [step for step, _ in logged],
        **{name: [values[at_] for _, values in rows] + [None] * len(logged) for at_, name in enumerate(names)},
        "level": [None] * len(rows) + [value for _, value in logged],
    }
    watched, trained = (0, len(rows)), (len(rows), len(rows) + len(logged))
    none = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    traces = [
        Trace(name="5 to 95% of prompts", rows=watched, take={"x": "step", "y": "q5"}, style=none, listed=False),
        Trace(
            name="5 to 95% of prompts",
            rows=watched,
            take={"x": "step", "y": "q95"},
            style=none | {"fill": "tonexty", "fillcolor": "$c0/0.16"},
        ),
        Trace(name="25 to 75%", rows=watched, take={"x": "step", "y": "q25"}, style=none, listed=False),
        Trace(
            name="25 to 75%",
            rows=watched,
            take={"x": "step", "y": "q75"},
            style=none | {"fill": "tonexty", "fillcolor": "$c0/0.3"},
        ),
        Trace(
            name="median of held-out prompts",
            rows=watched,
            take={"x": "step", "y": "q50"},
            style={
                "type": "scatter",
                "mode": "lines+markers",
                "line": {"color": "$c0", "width": 2.5},
                "marker": {"color": "$c0", "size": 7},
                "hovertemplate": "step %{x}<br>median β %{y:.4~g}<extra></extra>",
            },
        ),
    ]
    if logged:
        traces.append(
            Trace(
                name="level in training (geometric mean)",
                rows=trained,
                take={"x": "step", "y": "level"},
                style={
                    "type": "scatter",
                    "mode": "lines+markers",
                    "line": {"color": "$c1", "width": 1.8, "dash": "dot"},
                    "marker": {"color": "$c1", "symbol": "diamond", "size": 6},
                    "hovertemplate": "step %{x}<br>level of β %{y:.4~g}<extra></extra>",
                },
            )
        )
    betas = [row["beta"] for row in run.prompts]
    log = min(betas) > 0 and max(betas) / min(betas) >= LOG_FROM
    return Figure(
        name=f"beta-over-training-{number}",
        title="β over training",
        caption=(
            "How β is spread over the held-out prompts at five points of training, and its level in the batches "
            "between them."
        ),
        columns=columns,
        heads={
            "step": "optimizer step",
            **{name: f"β, {level:.0%} quantile" for name, level in zip(names, _LEVELS, strict=True)},
            "level": "level of β in training",
        },
        panels=[Panel(label="", traces=traces)],
        layout={
            "xaxis": axis("optimizer step", rangemode="tozero"),
            "yaxis": log_axis("β", betas) if log else axis("β", range=around(betas)),
        },
        height=430,
    )
