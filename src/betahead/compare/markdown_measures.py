"""The part of the report on what is measured beside gold and KL."""

from collections.abc import Sequence

from betahead.compare.evidence import Evidence
from betahead.compare.panel_records import MeasureKind, NoiseRow
from betahead.compare.tables import shown, table

_TITLES = {
    "held-out pairs": "Held-out pairs",
    "answers": "Answers of the policy",
    "retention": "Retention, on prompts that no pair came from",
}
_NONE = "–"


def measure_parts(evidence: Evidence) -> list[str]:
    """Paragraphs and tables on spread, measures, label noise and compute."""
    return [*_spread(evidence), *_measures(evidence), *_label_noise(evidence), *_compute(evidence)]


def _spread(evidence: Evidence) -> list[str]:
    rows = evidence.panels.spread
    if not rows:
        return []
    heads = ["metric", "cell", "A", "B", "over seeds", "over configurations"]
    return [
        "Spread of A minus spread of B, over the whole pool on dev (below 0: A is steadier); intervals resample "
        "configurations.",
        table(
            heads,
            [
                [
                    row.metric,
                    row.cell,
                    row.a,
                    row.b,
                    _NONE if row.over_seeds is None else shown(row.over_seeds),
                    _NONE if row.over_configurations is None else shown(row.over_configurations),
                ]
                for row in rows
            ],
        ),
    ]


def _measures(evidence: Evidence) -> list[str]:
    values = {(row.cell, row.method, row.measure): row for row in evidence.panels.measures}
    places = list(dict.fromkeys((row.cell, row.method) for row in evidence.panels.headline))
    parts: list[str] = []
    for group, title in _TITLES.items():
        kinds = [kind for kind in evidence.panels.measure_kinds if kind.group == group]
        there = [kind for kind in kinds if any(measure == kind.measure for _, _, measure in values)]
        parts += [f"## {title}", _legend(kinds, [cell for cell, _ in places])]
        if not there:
            continue

        def number(cell: str, method: str, kind: MeasureKind) -> str:
            row = values.get((cell, method, kind.measure))
            return _NONE if row is None or row.value is None else shown(row.value)

        parts.append(
            table(
                ["cell", "method", *(kind.measure for kind in there)],
                [[cell, method, *(number(cell, method, kind) for kind in there)] for cell, method in places],
            )
        )
    return parts


def _legend(kinds: Sequence[MeasureKind], cells: Sequence[str]) -> str:
    """What each measure is, and where it does not exist."""
    lines: list[str] = []
    for kind in kinds:
        side = "" if kind.better is None else f"{'more' if kind.better == 'higher' else 'less'} is better"
        traits = ", ".join(trait for trait in (kind.unit, side) if trait)
        absent = ""
        if kind.not_in:
            absent = " No cell has it." if set(kind.not_in) == set(cells) else f" Not in {', '.join(kind.not_in)}."
        lines.append(f"- `{kind.measure}`{f' ({traits})' if traits else ''}: {kind.summary}.{absent}")
    return "\n".join(lines)


def _label_noise(evidence: Evidence) -> list[str]:
    rows = evidence.panels.label_noise
    if not rows:
        return []
    levels = sorted({row.noise for row in rows})
    found: dict[tuple[str, str, str], dict[float, NoiseRow]] = {}
    for row in rows:
        found.setdefault((row.cell, row.a, row.b), {})[row.noise] = row
    return [
        "## Effect by label noise",
        "By how much A is better than B on the test prompts of the topics with that noise, in the runs of the tests "
        "above.",
        table(
            ["cell", "A", "B", *(f"noise {level:.0%}" for level in levels)],
            [
                [*place, *(shown(of[level].effect) if level in of else _NONE for level in levels)]
                for place, of in found.items()
            ],
        ),
    ]


def _compute(evidence: Evidence) -> list[str]:
    rows = evidence.panels.compute
    return [
        "## Compute",
        "Of one run. Tokens are undefined in worlds whose answers have none. Memory is the peak of the process, with "
        "all that it ran before.",
        table(
            ["method", "runs", "tokens trained on", "seconds", "GiB"],
            [
                [
                    row.method,
                    f"{row.runs}",
                    "undefined" if row.tokens is None else f"{row.tokens:,.0f}",
                    f"{row.seconds:.3g}",
                    f"{row.peak_gib:.2f}",
                ]
                for row in rows
            ],
        ),
    ]
