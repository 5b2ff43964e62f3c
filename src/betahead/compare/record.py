"""From a finished comparison to its evidence: every claim with its sentence, every test, every panel."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from jaxtyping import Float

from betahead.compare.allocation import topic_betas
from betahead.compare.evidence import (
    SCHEMA_VERSION,
    ClaimCell,
    ClaimRecord,
    CodeRecord,
    Evidence,
    FamilyRecord,
    LeftOutRecord,
    SecondaryRecord,
    SettleRecord,
    TestRecord,
)
from betahead.compare.judged import ClaimInCell, Judged, differences, judge, rules_of
from betahead.compare.panel_records import IntervalRecord
from betahead.compare.panels import panels_of
from betahead.compare.plan import ComparisonSection, better_side
from betahead.compare.resolved import ResolvedPlan, Test, family_sentence
from betahead.compare.scope import HOLDS, Scope
from betahead.compare.settle import settled_by
from betahead.compare.verdict import Decision
from betahead.compare.work import Finished
from betahead.runs.machine import hardware, software
from betahead.runs.redaction import redacted_words
from betahead.stats.paired import paired_interval


def evidence_of(finished: Finished, command: str) -> Evidence:
    """Judge a finished comparison and put everything that it found on record.

    Args:
        finished: what the storage holds.
        command: that repeats it.
    """
    resolved = finished.resolved
    plan = resolved.plan
    judged = judge(finished)
    return Evidence(
        schema_version=SCHEMA_VERSION,
        name=plan.name,
        question=plan.question,
        plan_hash=resolved.hash,
        plan=resolved.to_dict(),
        test_opened=finished.test_opened,
        scope=plan.searches.scope,
        metric=plan.metric.primary,
        better="lower" if better_side(plan.metric.primary) == "lower" else "higher",
        rope=plan.rope,
        alpha=plan.alpha,
        tests_per_family=resolved.family,
        family=family_record(resolved),
        code=CodeRecord(version=resolved.code.version, digest=resolved.code.digest),
        software=software(),
        hardware=hardware(),
        command=command,
        claims=_claims(finished, judged),
        tests=_tests(finished, judged),
        secondary=_secondary(finished),
        panels=panels_of(finished),
    )


def sentence_of(one: ComparisonSection, cells: Sequence[ClaimInCell], scope: Scope) -> str:
    """A claim in plain words: on how many cells it says what, whom a mechanism does not beat, and for what it holds."""
    counts = Counter(str(cell.verdict) for cell in cells)
    parts = [f"{word} on {counts[word]}" for word in _WORDS[one.claim == "mechanism"] if counts[word]]
    roles = Counter(role for cell in cells for role in cell.no_better_than)
    if roles:
        short = ", ".join(f"than its {role} on {count}" for role, count in roles.items())
        parts = [part + f" (no better {short})" if part.startswith("not shown") else part for part in parts]
    named = {
        "better": f"{one.a} against {one.b}",
        "bound": f"{one.a} (which reads the truth) against {one.b}",
        "mechanism": f"the mechanism of {one.a} (better than {one.b}, its parent and its placebo)",
    }[one.claim]
    holds = "" if scope == "configurations" else f", {HOLDS[scope]}"
    return f"{named}: {', '.join(parts)} of {len(cells)} cell{'s'[: len(cells) != 1]}{holds}."


_WORDS = {
    False: ("better", "worse", "equivalent", "inconclusive"),
    True: ("shown", "not shown", "open"),
}


def _claims(finished: Finished, judged: Judged) -> list[ClaimRecord]:
    found: list[ClaimRecord] = []
    for one, cells in judged.claims:
        found.append(
            ClaimRecord(
                a=one.a,
                b=one.b,
                claim=one.claim,
                cells=[_in_cell(finished, one, cell) for cell in cells],
                counts=dict(Counter(str(cell.verdict) for cell in cells)),
                sentence=sentence_of(one, cells, finished.resolved.plan.searches.scope),
            )
        )
    return found


def _in_cell(finished: Finished, one: ComparisonSection, cell: ClaimInCell) -> ClaimCell:
    betas = topic_betas(finished, cell.cell, one.a)
    return ClaimCell(
        cell=cell.cell,
        verdict=cell.verdict,
        against=dict(cell.against),
        no_better_than=list(cell.no_better_than),
        beta_ratio=max(betas) / min(betas) if betas else None,
    )


def family_record(resolved: ResolvedPlan) -> FamilyRecord:
    """What the family of tests is, in words too."""
    return FamilyRecord(
        corrected="over tests × cells" if resolved.plan.holm == "all" else "over the tests of each cell",
        sizes=[len(family) for family in resolved.families],
        left_out=[
            LeftOutRecord(cell=cell, a=test.a, b=test.b)
            for cell in resolved.plan.cells
            for test in resolved.tests
            if (test, cell) in resolved.left_out
        ],
        sentence=family_sentence(resolved),
    )


def _tests(finished: Finished, judged: Judged) -> list[TestRecord]:
    return [
        TestRecord(
            cell=cell,
            a=test.a,
            b=test.b,
            verdict=its.verdict,
            effect=IntervalRecord.of(its.effect),
            ninety=IntervalRecord.of(its.ninety),
            p=its.p,
            p_holm=its.p_holm,
            wins=IntervalRecord.of(its.wins),
            sd=its.sd,
            finals=its.finals,
            minimum_detectable_effect=its.minimum_detectable_effect,
            finals_to_settle=_settled(finished, test, cell, its),
            in_family=(test, cell) not in finished.resolved.left_out,
        )
        for (test, cell), its in judged.decisions.items()
    ]


def _settled(finished: Finished, test: Test, cell: str, its: Decision) -> SettleRecord | None:
    if its.verdict != "inconclusive" or its.finals == 1:
        return None
    resolved = finished.resolved
    seen = differences(finished, cell, test, resolved.plan.metric.primary)
    return SettleRecord(**asdict(settled_by(seen, rules_of(resolved), family=resolved.family_of(test, cell))))


def _secondary(finished: Finished) -> list[SecondaryRecord]:
    resolved = finished.resolved
    plan = resolved.plan
    return [
        SecondaryRecord(
            cell=cell,
            a=test.a,
            b=test.b,
            metric=metric,
            better=better_side(metric),
            effect=IntervalRecord.of(paired_interval(found, seed=plan.seed, level=1.0 - plan.alpha)),
        )
        for metric in plan.metric.secondary
        for test in resolved.tests
        for cell in plan.cells
        if len(found := _both(differences(finished, cell, test, metric)))
    ]


def _both(differences: Float[np.ndarray, "finals units"]) -> Float[np.ndarray, "some units"]:
    """The finals in which both have a number: a measure without a better side has none for a run that diverged."""
    return differences[np.isfinite(differences).all(axis=1)]


def command_line() -> str:
    """The words of this process, as a person would type them."""
    return " ".join(["betahead", *redacted_words(sys.argv[1:])])
