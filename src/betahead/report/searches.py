"""What searches of a comparison win: best of n trials, and reward against KL with its envelope and matched-KL table."""

from collections.abc import Mapping
from typing import Any

from betahead.report.evidence_file import EvidenceFile, bounds
from betahead.report.figures import Figure, Panel, Trace, axis, line, marker, plotly_text
from betahead.report.html import Html, element, joined
from betahead.report.numbers import finite, interval, shown
from betahead.report.run_files import Row, at, mapped
from betahead.report.tables import choices, table


def best_of_n(evidence: EvidenceFile) -> Html:
    """The value that a search of n trials wins on dev, a curve for each method."""
    rows = [
        row
        for row in evidence.rows("best_of_n", "cell", "method", "n", "value")
        if finite(at(row["value"], "estimate")) is not None
    ]
    if not rows:
        return _absent("best-of-n values")
    columns: dict[str, list[Any]] = {name: [] for name in ("cell", "method", "n", "value", "low", "high")}
    panels: list[Panel] = []
    for cell in evidence.cells:
        traces: list[Trace] = []
        for method in evidence.methods:
            number = evidence.number(method)
            here = sorted(
                (row for row in rows if row["cell"] == cell and row["method"] == method), key=lambda row: row["n"]
            )
            start = len(columns["n"])
            for row in here:
                for column, value in zip(
                    columns.values(), (cell, method, row["n"], *bounds(row["value"])), strict=True
                ):
                    column.append(value)
            span = (start, len(columns["n"]))
            if span[0] == span[1]:
                continue
            hidden = method not in evidence.prominent
            traces += _band(method, number, span, hidden=hidden)
        if traces:
            panels.append(Panel(label=cell, traces=traces))
    trials = at(evidence.plan, "pool", "trials")
    metric = evidence.metric
    return Figure(
        name="best-of-n",
        title="Best of n trials",
        caption=(
            "What a search of n trials wins on dev, with 95% intervals. The same values select and are shown, so "
            "all curves flatter their methods alike and no verdict reads "
            f"them.{'' if trials is None else f' The searches of this comparison saw {trials} trials.'}"
        ),
        columns=columns,
        heads={
            "cell": "cell",
            "method": "method",
            "n": "trials",
            "value": f"{metric}, on dev",
            "low": "low",
            "high": "high",
        },
        panels=panels,
        layout={
            "xaxis": _trials(columns["n"]),
            "yaxis": axis(f"{metric}, on dev"),
            **({} if not isinstance(trials, int) else {"shapes": [_upright(trials)]}),
        },
        height=440,
        choice="cell",
    ).html()


def _trials(counts: list[int]) -> dict[str, Any]:
    """The axis of n, with a tick at every power of two that was read."""
    ticks = [n for n in sorted(set(counts)) if n & (n - 1) == 0 or n == max(counts)]
    return axis("trials of a search", type="log", tickvals=ticks, ticktext=[f"{n}" for n in ticks])


def _upright(x: float) -> Mapping[str, Any]:
    style = {"color": "$quiet", "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": style}


def _band(method: str, number: int, span: tuple[int, int], *, hidden: bool) -> list[Trace]:
    """A curve with its interval as a band."""
    none = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    shade = f"{line(number)['color']}/0.1"
    return [
        Trace(name=method, rows=span, take={"x": "n", "y": "low"}, style=none, listed=False, hidden=hidden),
        Trace(
            name=method,
            rows=span,
            take={"x": "n", "y": "high"},
            style=none | {"fill": "tonexty", "fillcolor": shade},
            listed=False,
            hidden=hidden,
        ),
        Trace(
            name=method,
            rows=span,
            take={"x": "n", "y": "value"},
            style={
                "type": "scatter",
                "mode": "lines+markers",
                "line": line(number),
                "marker": marker(number, size=7),
                "hovertemplate": f"{plotly_text(method)}<br>%{{x}} trials: %{{y:.4~g}}<extra></extra>",
            },
            hidden=hidden,
        ),
    ]


def reward_and_kl(evidence: EvidenceFile) -> Html:
    """All configurations of the pool as a cloud, their upper envelope, and gold at matched KL as a table."""
    rows = [
        row
        for row in evidence.rows("cloud", "cell", "method", "reward", "kl")
        if finite(row["reward"]) is not None and finite(row["kl"]) is not None
    ]
    figure = _cloud(evidence, rows) if rows else _absent("rewards and KL of configurations")
    return joined(figure, _matched(evidence))


def _cloud(evidence: EvidenceFile, rows: list[Row]) -> Html:
    columns: dict[str, list[Any]] = {name: [] for name in ("cell", "method", "what", "kl", "reward", "configuration")}
    panels: list[Panel] = []
    for cell in evidence.cells:
        traces: list[Trace] = []
        for method in evidence.methods:
            number = evidence.number(method)
            here = sorted(
                (row for row in rows if row["cell"] == cell and row["method"] == method), key=lambda row: row["kl"]
            )
            if not here:
                continue
            hidden = method not in evidence.prominent
            dots = _add(columns, here, "configuration")
            edge = _add(columns, envelope(here), "envelope")
            name = plotly_text(method)
            traces += [
                Trace(
                    name=method,
                    rows=dots,
                    take={"x": "kl", "y": "reward", "text": "configuration"},
                    style={
                        "type": "scatter",
                        "mode": "markers",
                        "marker": marker(number, size=6, opacity=0.45),
                        "hovertemplate": (
                            f"{name}<br>KL %{{x:.3~g}} nats · gold %{{y:.3~g}}<br>%{{text}}<extra></extra>"
                        ),
                    },
                    hidden=hidden,
                ),
                Trace(
                    name=method,
                    rows=edge,
                    take={"x": "kl", "y": "reward"},
                    style={"type": "scatter", "mode": "lines", "line": line(number, shape="hv"), "hoverinfo": "skip"},
                    listed=False,
                    hidden=hidden,
                ),
            ]
        if traces:
            panels.append(Panel(label=cell, traces=traces))
    return Figure(
        name="reward-kl",
        title="Reward against KL",
        caption=(
            "Every configuration of each method's pool at the end of training, on dev: the mean over its tuning "
            "seeds. The line is the envelope, the most gold at no more than that KL. More KL buys more gold "
            "whatever the method, so compare at the same KL."
        ),
        columns=columns,
        heads={
            "cell": "cell",
            "method": "method",
            "what": "point of",
            "kl": "KL (nats per answer)",
            "reward": "gold reward",
            "configuration": "configuration",
        },
        panels=panels,
        layout={
            "xaxis": axis("KL to the reference (nats per answer)", rangemode="tozero"),
            "yaxis": axis("gold reward"),
        },
        height=460,
        choice="cell",
    ).html()


def envelope(rows: list[Row]) -> list[Row]:
    """Of rows in the order of their KL, those with more reward than every one before."""
    found: list[Row] = []
    for row in rows:
        if not found or row["reward"] > found[-1]["reward"]:
            found.append(row)
    return [*found, {**found[-1], "kl": rows[-1]["kl"]}] if found else []


def _add(columns: dict[str, list[Any]], rows: list[Row], what: str) -> tuple[int, int]:
    start = len(columns["kl"])
    for row in rows:
        configuration = row.get("configuration")
        settings = mapped(configuration)
        words = plotly_text(", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in settings.items()))
        for column, value in zip(
            columns.values(), (row["cell"], row["method"], what, row["kl"], row["reward"], words), strict=True
        ):
            column.append(value)
    return start, len(columns["kl"])


def _matched(evidence: EvidenceFile) -> Html | None:
    rows = evidence.rows("frontier", "cell", "method", "kl", "gold", "share_short")
    if not rows:
        return element("p", "Gold at matched KL was not read in this comparison.", class_="note")
    parts: list[tuple[str, Html]] = []
    for cell in evidence.cells:
        here = [row for row in rows if row["cell"] == cell]
        levels = sorted({level for row in here if (level := finite(row["kl"])) is not None})
        if not levels:
            continue
        lines: list[list[str | Html]] = []
        for method in evidence.methods:
            by_level = {row["kl"]: row for row in here if row["method"] == method}
            if by_level:
                lines.append([method, *(_gold(by_level.get(level)) for level in levels)])
        body = table(
            ["method", *(f"KL = {shown(level)}" for level in levels)], lines, numeric=range(1, len(levels) + 1)
        )
        parts.append((cell, body))
    return joined(
        element("h3", "Gold at matched KL, on test"),
        element(
            "p",
            "The reward where a final's path first crosses each KL (nats per answer), with its 95% interval. A run "
            "that never gets so far counts with its last reward, at less KL; where many fell short, KL is not matched.",
        ),
        choices("cell", parts) if parts else None,
    )


def _gold(row: Row | None) -> Html:
    if row is None:
        return Html("–")
    short = finite(row["share_short"])
    return joined(interval(row["gold"]), element("small", f"{short:.0%} fell short") if short else None)


def _absent(what: str) -> Html:
    return element("p", f"This evidence holds no {what}.", class_="note")
