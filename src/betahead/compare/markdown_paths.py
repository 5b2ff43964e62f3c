"""The part of the report on paths: checkpoints, the cloud of reward and KL, and β of each topic beside the oracle's."""

from collections.abc import Sequence

from betahead.compare.evidence import Evidence
from betahead.compare.panel_records import AllocationRow, BetaRow, CheckpointRow, EnvelopeRow
from betahead.compare.tables import shown, table

_NONE = "–"


def path_parts(evidence: Evidence) -> list[str]:
    """Paragraphs and tables on checkpoints, clouds, β and conditions."""
    return [*_checkpoints(evidence), *_cloud(evidence), *_beta(evidence), *_across(evidence)]


def _checkpoints(evidence: Evidence) -> list[str]:
    rows = [row for row in evidence.panels.checkpoints if row.share > 0.0]
    shares = sorted({row.share for row in rows})
    found: dict[tuple[str, str], dict[float, CheckpointRow]] = {}
    for row in rows:
        found.setdefault((row.cell, row.method), {})[row.share] = row
    return [
        "## Checkpoints",
        "Reward @ KL of the finals after a share of training, means over runs; a method that is stopped is shown as if "
        "it went on.",
        table(
            ["cell", "method", *(f"{share:.0%}" for share in shares)],
            [[*place, *(_point(of.get(share)) for share in shares)] for place, of in found.items()],
        ),
    ]


def _point(row: CheckpointRow | None) -> str:
    return _NONE if row is None or row.reward is None or row.kl is None else f"{row.reward:.3f} @ {row.kl:.3g}"


def _cloud(evidence: Evidence) -> list[str]:
    panels, targets = evidence.panels, evidence.plan["kl_targets"]
    envelopes: dict[tuple[str, str], list[EnvelopeRow]] = {}
    for row in panels.envelope:
        envelopes.setdefault((row.cell, row.method), []).append(row)
    most = max(len(of_cell) for of_cell in targets.values())
    rows: list[list[str]] = []
    for (cell, method), envelope in envelopes.items():
        kls = [row.kl for row in panels.cloud if (row.cell, row.method) == (cell, method) and row.kl is not None]
        ends = f"{min(kls):.3g} to {max(kls):.3g}" if kls else _NONE
        at = [_below(envelope, kl) for kl in targets[cell]]
        rows.append([cell, method, ends, *at, *[_NONE] * (most - len(at))])
    return [
        "## Cloud of reward and KL, on dev",
        "All configurations of the pools: where they end, and their envelope, the most reward of any of them at any "
        "checkpoint with at most that KL (the targets of the cell, in brackets). The best of a cloud flatters, all "
        "methods alike; no verdict reads it.",
        table(["cell", "method", "KL at the end", *(f"envelope, KL {at + 1}" for at in range(most))], rows),
    ]


def _below(envelope: Sequence[EnvelopeRow], kl: float) -> str:
    rewards = [row.reward for row in envelope if row.kl <= kl]
    return f"{max(rewards):.3f} ({kl:.3g})" if rewards else _NONE


def _beta(evidence: Evidence) -> list[str]:
    found: dict[tuple[str, str], list[BetaRow]] = {}
    for row in evidence.panels.beta:
        found.setdefault((row.cell, row.method), []).append(row)
    if not found:
        return []
    towards = {(row.cell, row.method): row for row in evidence.panels.allocation}
    most = max(len(rows) for rows in found.values())
    lines: list[list[str]] = []
    cells: set[str] = set()
    for (cell, method), rows in found.items():
        oracle = [row.oracle for row in rows if row.oracle is not None]
        if oracle and cell not in cells:
            filled = [*(f"×{value:.2f}" for value in oracle), *[_NONE] * (most - len(oracle))]
            lines.append([cell, "*oracle of the world*", *filled, _NONE])
        cells.add(cell)
        filled = [*(f"{row.beta:.3g} (×{row.relative:.2f})" for row in rows), *[_NONE] * (most - len(rows))]
        lines.append([cell, method, *filled, _towards(towards.get((cell, method)))])
    return [
        "## β per topic",
        "At the end of the finals, in brackets over the geometric mean of the topics. Towards the oracle: the slope of "
        "log β over the oracle's; 1 goes as far as it, 0 nowhere, below 0 the other way.",
        table(["cell", "method", *(f"topic {at + 1}" for at in range(most)), "towards the oracle"], lines),
    ]


def _towards(row: AllocationRow | None) -> str:
    return _NONE if row is None or row.towards_oracle is None else shown(row.towards_oracle)


def _across(evidence: Evidence) -> list[str]:
    rows = evidence.panels.across
    if not rows:
        return []
    return [
        "## Spread over conditions",
        f"Standard deviation of the mean {evidence.metric} over the conditions of a world (below 0: A varies less).",
        table(
            ["world", "conditions", "A", "B", "of A", "of B", "A minus B"],
            [
                [
                    row.world,
                    f"{row.conditions}",
                    row.a,
                    row.b,
                    shown(row.of_a),
                    shown(row.of_b),
                    shown(row.difference),
                ]
                for row in rows
            ],
        ),
    ]
