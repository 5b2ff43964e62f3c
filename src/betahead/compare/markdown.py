"""The evidence as tables in Markdown: claims first, then tests, then the panels."""

from collections.abc import Mapping

from betahead.compare.evidence import ClaimCell, Evidence
from betahead.compare.markdown_measures import measure_parts
from betahead.compare.markdown_paths import path_parts
from betahead.compare.panel_records import IntervalRecord
from betahead.compare.scope import LEADS, Scope, consequence
from betahead.compare.tables import settled_by, shown, table


def markdown_of(evidence: Evidence) -> str:
    """The whole report."""
    parts = [
        f"# {evidence.name}",
        evidence.question,
        f"Plan `{evidence.plan_hash}`; test opened {evidence.test_opened}. Metric `{evidence.metric}`, smallest effect "
        f"worth having (ROPE) {evidence.rope:g}; alpha {evidence.alpha:g} after Holm; {evidence.family.sentence}.",
        f"Of betahead {evidence.code.version}, code `{evidence.code.digest[:12]}`.",
        f"Repeat it: `{evidence.command}`",
        "## Claims",
        "\n".join(f"- {claim.sentence}" for claim in evidence.claims),
        _claims(evidence),
        "## Tests",
        f"{_effect(evidence)} P(A>B): on a fresh final. MDE: what so many finals find with 80 % power. "
        "Settled by: the fewest finals that end an inconclusive test in four of five replays of the whole verdict "
        "(interval, effect, p as the smallest of its family, wins; or the interval of equivalence), were the truth 0, "
        "2 ROPE, or what was seen; – where fifty times the finals do not, as where A wins too rarely. Replays draw "
        "finals from those that were seen and assume that they spread alike under every truth.",
        _scope(evidence.scope),
        _tests(evidence),
        *_secondary(evidence),
        *_panels(evidence),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _effect(evidence: Evidence) -> str:
    if evidence.better == "higher":
        return "Effect: A minus B with its interval."
    return f"Effect: B minus A with its interval, because less {evidence.metric} is better."


def _claims(evidence: Evidence) -> str:
    cells = [one.cell for one in evidence.claims[0].cells]
    rows = [
        [f"{claim.a} against {claim.b} ({claim.claim})", *(_verdict(one) for one in claim.cells)]
        for claim in evidence.claims
    ]
    note = "In brackets: the largest β of a topic over the smallest, at the end of A's finals."
    spread = any(one.beta_ratio is not None for claim in evidence.claims for one in claim.cells)
    return table(["claim", *cells], rows) + (f"\n\n{note}" if spread else "")


def _verdict(one: ClaimCell) -> str:
    """The verdict of a claim in a cell, and how far its β differs between topics."""
    short = f": no better than its {' and its '.join(one.no_better_than)}" if one.no_better_than else ""
    return one.verdict + short + ("" if one.beta_ratio is None else f" (β ×{one.beta_ratio:.2g})")


def _nothing(headroom: IntervalRecord) -> bool:
    """Whether the oracle and fixed β are one method."""
    return headroom.estimate == headroom.low == headroom.high == 0.0


def _scope(scope: Scope) -> str:
    lead = LEADS[scope] if scope == "configurations" else f"**{LEADS[scope]}**"
    return f"{lead}{consequence(scope)}"


# After a verdict that says something of more than these finals.
_ABOUT: Mapping[Scope, str] = {"configurations": "", "pool": " (this pool)", "search": " (this search)"}


def _tests(evidence: Evidence) -> str:
    heads = ["cell", "A", "B", "verdict", "effect", "p", "p (Holm)", "P(A>B)", "MDE", "settled by (0 · 2 ROPE · seen)"]
    rows = [
        [
            one.cell,
            one.a,
            one.b,
            f"**{one.verdict}**{'' if one.verdict == 'inconclusive' else _ABOUT[evidence.scope]}",
            shown(one.effect),
            f"{one.p:.2g}",
            f"{one.p_holm:.2g}" if one.in_family else "the same runs",
            f"{one.wins.estimate:.2f}",
            f"{one.minimum_detectable_effect:.3g}",
            settled_by(one),
        ]
        for one in evidence.tests
    ]
    return table(heads, rows)


def _secondary(evidence: Evidence) -> list[str]:
    if not evidence.secondary:
        return []
    rows = [
        [one.metric, one.cell, one.a, one.b, shown(one.effect), "B − A" if one.better == "lower" else "A − B"]
        for one in evidence.secondary
    ]
    return [
        "## Other metrics",
        "No verdict hangs on them. Gold was selected on dev for itself, a measure read in the runs picked for "
        f"{evidence.metric}.",
        table(["metric", "cell", "A", "B", "effect", "is"], rows),
    ]


def _panels(evidence: Evidence) -> list[str]:
    panels = evidence.panels
    parts = [
        "## Budget",
        table(
            ["method", "axes", "trials", "pool", "tuning seeds", "pool runs", "final runs", "seconds", "at an edge"],
            [
                [
                    row.method,
                    ", ".join(row.axes),
                    f"{row.trials}",
                    f"{row.configurations}",
                    f"{row.tuning_seeds}",
                    f"{row.pool_runs}",
                    f"{row.final_runs}",
                    f"{row.seconds:.1f}",
                    f"{row.picked_at_an_edge:.0%}",
                ]
                for row in panels.budget
            ],
        ),
        "## Headline",
        table(
            ["cell", "method", "metric", "value on test"],
            [[row.cell, row.method, row.metric, shown(row.value)] for row in panels.headline],
        ),
        "## Best of n trials, on dev",
        _best_of_n(evidence),
    ]
    if panels.frontier:
        parts += [
            "## Gold at matched KL, on test",
            "A run that never gets that far counts with its last reward, which it has at less KL: where many fell "
            "short, KL is not matched, and neither is what is measured elsewhere at the end of these runs.",
            table(
                ["cell", "method", "KL", "gold", "runs that fell short"],
                [
                    [row.cell, row.method, f"{row.kl:.3g}", shown(row.gold), f"{row.share_short:.0%}"]
                    for row in panels.frontier
                ],
            ),
        ]
    if panels.headroom:
        parts += [
            "## Headroom captured",
            "(learned − fixed)/(oracle − fixed); undefined where the oracle wins less than the ROPE. The oracle is the "
            "best of a search, so this is at least what could be won; *none found* where that search found fixed β.",
            table(
                ["cell", "method", "headroom", "captured"],
                [
                    [
                        row.cell,
                        row.method,
                        "none found" if _nothing(row.headroom) else shown(row.headroom),
                        "undefined" if row.captured is None else shown(row.captured),
                    ]
                    for row in panels.headroom
                ],
            ),
        ]
    parts += [
        "## Stability",
        table(
            ["cell", "method", "diverged, pool", "diverged, finals", "SD over seeds", "SD over configurations"],
            [
                [
                    row.cell,
                    row.method,
                    f"{row.pool:.0%}",
                    f"{row.finals:.0%}",
                    "–" if row.sd_over_seeds is None else f"{row.sd_over_seeds:.3g}",
                    "–" if row.sd_over_configurations is None else f"{row.sd_over_configurations:.3g}",
                ]
                for row in panels.stability
            ],
        ),
        *path_parts(evidence),
        *measure_parts(evidence),
    ]
    return parts


def _best_of_n(evidence: Evidence) -> str:
    rows = evidence.panels.best_of_n
    counts = sorted({row.n for row in rows})
    found: dict[tuple[str, str], dict[int, str]] = {}
    for row in rows:
        found.setdefault((row.cell, row.method), {})[row.n] = shown(row.value)
    return table(
        ["cell", "method", *(f"n = {n}" for n in counts)],
        [[*place, *(of_n[n] for n in counts)] for place, of_n in found.items()],
    )
