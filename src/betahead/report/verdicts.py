"""The verdicts of a comparison: in words, claim by cell, and test by test with the effect and its interval."""

from typing import Any

from betahead.report.evidence_file import EvidenceFile, bounds
from betahead.report.figures import INTERVALS, Figure, Panel, Trace, axis, intervals, plotly_text
from betahead.report.html import Html, element, joined
from betahead.report.numbers import NONE, finite, interval, shown
from betahead.report.run_files import Row, at, listed, mapped
from betahead.report.tables import details, sentences, table

_TONES = {
    "better": "good",
    "shown": "good",
    "worse": "bad",
    "not shown": "bad",
    "equivalent": "even",
    "inconclusive": "open",
    "open": "open",
}
_COLOURS = {"better": "$c2", "worse": "$c1", "equivalent": "$c7", "inconclusive": "$c4"}
_SHAPES = {"better": "triangle-up", "worse": "triangle-down", "equivalent": "square", "inconclusive": "diamond"}
_MEANING = (
    (
        "better",
        (
            "the interval lies above 0, the effect is worth having, p after Holm is below alpha, and A wins on "
            "three of four finals"
        ),
    ),
    ("worse", "the same with A and B changed"),
    ("equivalent", "the 90% interval lies inside ± the smallest effect worth having"),
    ("inconclusive", "none of these: the numbers do not decide"),
    ("shown", "of a mechanism: better than its opponent, its parent and its placebo"),
    ("not shown", "one of them is as good or better, so the win, if there is one, may have another cause"),
    ("open", "a test is inconclusive and none is lost"),
)


def badge(verdict: str, more: str = "") -> Html:
    """A verdict with its tone; the word alone says what it is."""
    return element("span", verdict + more, class_=f"badge {_TONES.get(verdict, 'even')}")


def in_words(evidence: EvidenceFile) -> Html:
    """Every claim as a sentence with its counts, before any number."""
    claims = evidence.rows("claims", "sentence")
    if not claims:
        return element("p", "This evidence makes no claim.", class_="note")
    return joined(
        element("ul", (_claim(claim) for claim in claims), class_="claims"),
        details(
            "What the verdicts mean",
            element("ul", (element("li", badge(word), f" {meaning}") for word, meaning in _MEANING)),
        ),
    )


def _claim(claim: Row) -> Html:
    counts = claim.get("counts")
    found = mapped(counts)
    numbers = {str(word): finite(number) or 0.0 for word, number in found.items()}
    tone = _TONES.get(max(numbers, key=lambda word: numbers[word]), "even") if numbers else "even"
    return element(
        "li",
        element("p", _sentence(str(claim["sentence"]))),
        element("div", (badge(str(word), f" {number}") for word, number in found.items()), class_="counts"),
        class_=tone,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith("the mechanism") else text


def by_cell(evidence: EvidenceFile) -> Html | None:
    """Claims against cells, a verdict in each; None where the evidence has none."""
    claims = evidence.rows("claims", "a", "b", "cells")
    if not claims:
        return None
    cells = evidence.cells
    rows: list[list[str | Html]] = []
    for claim in claims:
        found = {str(at(one, "cell")): one for one in listed(claim["cells"])}
        head = joined(
            f"{claim['a']} against {claim['b']}", element("small", str(claim.get("claim", "")), class_="quiet")
        )
        rows.append([head, *(_in_cell(found.get(cell)) for cell in cells)])
    note = (
        "Below a verdict: ≤ and what a mechanism was no better than; β × and the largest β of a topic over the "
        "smallest."
    )
    return joined(
        table(["claim", *(cell.partition("/")[2] or cell for cell in cells)], rows), element("p", note, class_="quiet")
    )


def _in_cell(one: Any) -> Html:
    verdict = at(one, "verdict")
    if not isinstance(verdict, str):
        return Html(NONE)
    short = at(one, "no_better_than")
    words = f"≤ {', '.join(map(str, listed(short)))}" if short else ""
    ratio = finite(at(one, "beta_ratio"))
    return joined(
        badge(verdict),
        element("small", words) if words else None,
        element("small", f"β × {shown(ratio, 2)}") if ratio is not None else None,
    )


def effects(evidence: EvidenceFile) -> Html:
    """Every test's effect with its interval and the band of what is not worth having, and the table of the tests."""
    tests = evidence.rows("tests", "cell", "a", "b", "verdict", "effect")
    if not tests:
        return element("p", "This evidence holds no test.", class_="note")
    return joined(
        element("div", _forest(evidence, tests).html(), class_="grid wide-only"), details("All tests", _table(tests))
    )


def _forest(evidence: EvidenceFile, tests: list[Row]) -> Figure:
    names = ("cell", "a", "b", "verdict", "effect", "low", "high", "p_holm", "place", "up", "down", "hover")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    panels: list[Panel] = []
    rope = finite(evidence.values.get("rope")) or 0.0
    for cell in evidence.cells:
        here = [one for one in tests if one["cell"] == cell]
        traces: list[Trace] = []
        if not here:
            continue
        for verdict, colour in _COLOURS.items():
            start = len(columns["cell"])
            for place, one in enumerate(reversed(here)):
                if one["verdict"] == verdict:
                    _append(columns, one, place)
            if len(columns["cell"]) == start:
                continue
            traces.append(
                Trace(
                    name=verdict,
                    rows=(start, len(columns["cell"])),
                    take={"x": "effect"} | INTERVALS,
                    style=intervals({"color": colour, "symbol": _SHAPES[verdict], "size": 9}, 1.6),
                )
            )
        ticks = [f"{one['a']} − {one['b']}" for one in reversed(here)]
        layout = {"yaxis": _places(ticks), "height": 110 + 26 * len(here)}
        panels.append(Panel(label=cell, traces=traces, layout=layout))
    side = "A minus B" if evidence.text("better") != "lower" else "B minus A, because less is better"
    return Figure(
        name="effects",
        title="Effects with their intervals",
        caption=(
            f"By how much A is better than B on fresh finals ({side}). The grey band is what is not worth having, ± "
            f"{rope:g}: an interval inside it is a finding too."
        ),
        columns=columns,
        heads={
            "cell": "cell",
            "a": "A",
            "b": "B",
            "verdict": "verdict",
            "effect": f"effect on {evidence.metric}",
            "low": "low",
            "high": "high",
            "p_holm": "p (Holm)",
        },
        panels=panels,
        layout={
            "xaxis": axis(
                f"{evidence.metric}: by how much A is better",
                zeroline=True,
                zerolinewidth=1.5,
            ),
            "shapes": [
                {
                    "type": "rect",
                    "xref": "x",
                    "yref": "paper",
                    "x0": -rope,
                    "x1": rope,
                    "y0": 0,
                    "y1": 1,
                    "fillcolor": "$c7/0.14",
                    "line": {"width": 0},
                    "layer": "below",
                }
            ],
        },
        choice="cell",
    )


def _places(ticks: list[str]) -> dict[str, Any]:
    """A vertical axis of named rows."""
    texts = [plotly_text(one) for one in ticks]
    return {"tickvals": list(range(len(ticks))), "ticktext": texts, "range": [-0.7, len(ticks) - 0.3]}


def _append(columns: dict[str, list[Any]], one: Row, place: int) -> None:
    estimate, low, high = bounds(one["effect"])
    up, down = (None if end is None or estimate is None else abs(end - estimate) for end in (high, low))
    words = f"{one['a']} − {one['b']}: {one['verdict']}, {interval(one['effect'])}"
    values = (
        one["cell"],
        one["a"],
        one["b"],
        one["verdict"],
        estimate,
        low,
        high,
        finite(one.get("p_holm")),
        place,
        up,
        down,
        plotly_text(words),
    )
    for column, value in zip(columns.values(), values, strict=True):
        column.append(value)


def _table(tests: list[Row]) -> Html:
    rows = [
        [
            str(one["cell"]),
            str(one["a"]),
            str(one["b"]),
            badge(str(one["verdict"])),
            interval(one["effect"]),
            shown(one.get("p"), 2),
            shown(one.get("p_holm"), 2),
            shown(at(one, "wins", "estimate"), 2),
            shown(one.get("minimum_detectable_effect")),
            shown(one.get("finals_to_settle")),
        ]
        for one in tests
    ]
    heads = ["cell", "A", "B", "verdict", "effect", "p", "p (Holm)", "P(A > B)", "MDE", "finals to settle"]
    return table(heads, rows, numeric=range(4, 10))


def secondary(evidence: EvidenceFile) -> Html | None:
    """Differences on other metrics, on which no verdict hangs."""
    rows = evidence.rows("secondary", "cell", "a", "b", "metric", "effect")
    if not rows:
        return None
    body = table(
        ["metric", "cell", "A", "B", "effect"],
        [[str(row[key]) for key in ("metric", "cell", "a", "b")] + [interval(row["effect"])] for row in rows],
        numeric=(4,),
    )
    return joined(details("Other metrics", sentences("note", ["No verdict hangs on them."]), body))
