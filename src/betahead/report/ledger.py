"""Calibration on held-out pairs, stability, and what every method could and did spend."""

from typing import Any

from betahead.report.evidence_file import EvidenceFile, bounds
from betahead.report.figures import INTERVALS, Figure, Panel, Trace, axis, intervals, marker, plotly_text
from betahead.report.html import Html, element, joined
from betahead.report.numbers import count, finite, interval, share, shown
from betahead.report.run_files import Row, at, listed
from betahead.report.tables import choices, details, table

_PROBABILITIES = (
    ("held_out_nll", "NLL of σ(β(x)·h)", 0),
    ("tempered_nll", "NLL with one temperature fitted on dev", 1),
)
_ERRORS = (
    ("held_out_ece", "calibration error, 15 bins", 0),
    ("tempered_ece", "calibration error with that temperature", 1),
)


def calibration(evidence: EvidenceFile) -> Html:
    """How far the probabilities that β and margin give are to be trusted, as they are and with one temperature."""
    rows = [
        row
        for row in evidence.rows("measures", "cell", "method", "measure", "value")
        if bounds(row["value"])[0] is not None
    ]
    figures = [
        found
        for found in (
            _measured(evidence, rows, "calibration-nll", "Held-out NLL", "nats per pair", _PROBABILITIES),
            _measured(evidence, rows, "calibration-ece", "Calibration error", "expected gap of probability", _ERRORS),
        )
        if found is not None
    ]
    if not figures:
        return element("p", "This evidence measures no held-out probabilities.", class_="note")
    return joined(
        element(
            "p",
            "σ(β(x)·h) as the probability that a held-out label agrees, in the picked finals. The temperature is "
            "one number fitted on dev: what it mends was a matter of scale, what is left of a difference is not.",
        ),
        element("div", *(figure.html() for figure in figures), class_="grid"),
        _all_measures(evidence),
    )


def _measured(
    evidence: EvidenceFile,
    rows: list[Row],
    name: str,
    title: str,
    unit: str,
    measures: tuple[tuple[str, str, int], ...],
) -> Figure | None:
    columns: dict[str, list[Any]] = {
        key: [] for key in ("cell", "method", "measure", "value", "low", "high", "place", "up", "down", "hover")
    }
    panels: list[Panel] = []
    for cell in evidence.cells:
        here = [row for row in rows if row["cell"] == cell and row["measure"] in {one[0] for one in measures}]
        methods = [method for method in reversed(evidence.methods) if any(row["method"] == method for row in here)]
        traces: list[Trace] = []
        for measure, words, number in measures:
            start = len(columns["cell"])
            for row in here:
                if row["measure"] != measure or row["method"] not in methods:
                    continue
                estimate, low, high = bounds(row["value"])
                up, down = (None if end is None or estimate is None else abs(end - estimate) for end in (high, low))
                place = methods.index(row["method"]) + (0.14 if number == 0 else -0.14)
                hover = plotly_text(f"{row['method']}: {interval(row['value'])}")
                values = (cell, row["method"], words, estimate, low, high, place, up, down, hover)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
            if len(columns["cell"]) > start:
                traces.append(_dots(words, number, (start, len(columns["cell"]))))
        if traces:
            ticks = [plotly_text(method) for method in methods]
            vertical = {"tickvals": list(range(len(ticks))), "ticktext": ticks, "range": [-0.7, len(ticks) - 0.3]}
            panels.append(Panel(label=cell, traces=traces, layout={"yaxis": vertical, "height": 110 + 26 * len(ticks)}))
    if not panels:
        return None
    return Figure(
        name=name,
        title=title,
        caption="Less is better. Means over the finals with 95% intervals.",
        columns=columns,
        heads={
            "cell": "cell",
            "method": "method",
            "measure": "measure",
            "value": f"value ({unit})",
            "low": "low",
            "high": "high",
        },
        panels=panels,
        layout={"xaxis": axis(f"{title} ({unit})")},
        choice="cell",
    )


def _dots(name: str, number: int, span: tuple[int, int]) -> Trace:
    return Trace(
        name=name,
        rows=span,
        take={"x": "value"} | INTERVALS,
        style=intervals(marker(number, size=8), 1.3),
    )


def _all_measures(evidence: EvidenceFile) -> Html | None:
    """Every measure of every method, cell by cell."""
    rows = evidence.rows("measures", "cell", "method", "measure", "value")
    kinds = [
        kind for kind in evidence.rows("measure_kinds", "measure", "unit", "summary") if kind.get("group") != "compute"
    ]
    if not rows or not kinds:
        return None
    values = {(row["cell"], row["method"], row["measure"]): row["value"] for row in rows}
    legend = element(
        "ul",
        (element("li", element("code", str(kind["measure"])), f" {_unit(kind)}: {kind['summary']}") for kind in kinds),
    )
    parts: list[tuple[str, Html]] = []
    for cell in evidence.cells:
        there = [
            kind for kind in kinds if any((cell, method, kind["measure"]) in values for method in evidence.methods)
        ]
        there = [kind for kind in there if cell not in listed(kind.get("not_in"))]
        if there:
            lines = [
                [method, *(interval(values.get((cell, method, kind["measure"]))) for kind in there)]
                for method in evidence.methods
            ]
            body = table(["method", *(str(kind["measure"]) for kind in there)], lines, numeric=range(1, len(there) + 1))
            parts.append((cell, body))
    note = element("p", "Means over the finals with 95% intervals.")
    return details("All measures", legend, note, choices("cell", parts)) if parts else None


def _unit(kind: Row) -> str:
    side = kind.get("better")
    words = [str(kind["unit"] or ""), "" if side is None else f"{'more' if side == 'higher' else 'less'} is better"]
    text = ", ".join(word for word in words if word)
    return f"({text})" if text else ""


def budget(evidence: EvidenceFile) -> Html:
    """The ledger of trials, runs and seconds, and how often runs diverged."""
    rows = evidence.rows("budget", "method", "trials", "configurations", "pool_runs", "final_runs", "seconds")
    if not rows:
        return element("p", "This evidence holds no budget.", class_="note")
    cost = {row["method"]: row for row in evidence.rows("compute", "method", "seconds")}
    lines = [
        [
            str(row["method"]),
            ", ".join(map(str, listed(row.get("axes")))),
            count(row["trials"]),
            count(row["configurations"]),
            count(row.get("tuning_seeds")),
            count(row["pool_runs"]),
            count(row["final_runs"]),
            shown(row["seconds"]),
            shown(at(cost, str(row["method"]), "seconds")),
            shown(at(cost, str(row["method"]), "tokens")),
            shown(at(cost, str(row["method"]), "peak_gib"), 2),
            share(row.get("picked_at_an_edge")),
        ]
        for row in rows
    ]
    heads = [
        "method",
        "knobs",
        "trials",
        "configurations",
        "tuning seeds",
        "pool runs",
        "final runs",
        "seconds in all",
        "seconds a run",
        "tokens a run",
        "GiB",
        "picked at an edge",
    ]
    return joined(
        element(
            "p",
            (
                "The currency is trials: a method with more knobs gets no more of them. Picked at an edge: in the "
                "outer 5% of a range, which may have been too narrow."
            ),
        ),
        table(heads, lines, numeric=range(2, 12)),
        _stability(evidence),
    )


def _stability(evidence: EvidenceFile) -> Html | None:
    rows = evidence.rows("stability", "cell", "method", "pool", "finals")
    if not rows:
        return None
    diverged = [row for row in rows if (finite(row["pool"]) or 0.0) > 0.0 or (finite(row["finals"]) or 0.0) > 0.0]
    sentence = (
        (
            f"Runs diverged in {len(diverged)} of {len(rows)} pairs of cell and method; they count with the worst "
            "they showed and are not dropped."
        )
        if diverged
        else "No run diverged."
    )
    lines = [
        [
            str(row["cell"]),
            str(row["method"]),
            share(row["pool"]),
            share(row["finals"]),
            shown(row.get("sd_over_seeds")),
            shown(row.get("sd_over_configurations")),
        ]
        for row in rows
    ]
    heads = ["cell", "method", "diverged, pool", "diverged, finals", "SD over seeds", "SD over configurations"]
    return joined(
        element("h3", "Stability"),
        element("p", sentence),
        details("All cells and methods", table(heads, lines, numeric=range(2, 6))),
    )
