"""From a finished comparison to its evidence: every claim with its sentence, every test, every panel."""

import sys
from collections import Counter

from betahead.compare.evidence import (
    SCHEMA_VERSION,
    ClaimCell,
    ClaimRecord,
    Evidence,
    IntervalRecord,
    SecondaryRecord,
    TestRecord,
)
from betahead.compare.judged import Judged, differences, judge
from betahead.compare.panels import panels_of
from betahead.compare.plan import ComparisonSection
from betahead.compare.work import Finished
from betahead.runs.machine import hardware, software
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
        metric=plan.metric.primary,
        rope=plan.rope,
        alpha=plan.alpha,
        tests_per_family=resolved.family,
        software=software(),
        hardware=hardware(),
        command=command,
        claims=_claims(judged),
        tests=_tests(judged),
        secondary=_secondary(finished),
        panels=panels_of(finished),
    )


def sentence_of(one: ComparisonSection, counts: Counter[str], cells: int) -> str:
    """A claim in plain words: on how many of the cells it says what."""
    parts = [f"{word} on {counts[word]}" for word in _WORDS[one.claim == "mechanism"] if counts[word]]
    named = {
        "better": f"{one.a} against {one.b}",
        "bound": f"{one.a} (which reads the truth) against {one.b}",
        "mechanism": f"the mechanism of {one.a} (better than {one.b}, its parent and its placebo)",
    }[one.claim]
    return f"{named}: {', '.join(parts)} of {cells} cell{'' if cells == 1 else 's'}."


_WORDS = {
    False: ("better", "worse", "equivalent", "inconclusive"),
    True: ("shown", "refuted", "inconclusive"),
}


def _claims(judged: Judged) -> list[ClaimRecord]:
    found: list[ClaimRecord] = []
    for one, cells in judged.claims:
        counts = Counter(str(cell.verdict) for cell in cells)
        found.append(
            ClaimRecord(
                a=one.a,
                b=one.b,
                claim=one.claim,
                cells=[ClaimCell(cell=c.cell, verdict=c.verdict, against=dict(c.against)) for c in cells],
                counts=dict(counts),
                sentence=sentence_of(one, counts, len(cells)),
            )
        )
    return found


def _tests(judged: Judged) -> list[TestRecord]:
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
            finals_to_settle=its.finals_to_settle,
        )
        for (test, cell), its in judged.decisions.items()
    ]


def _secondary(finished: Finished) -> list[SecondaryRecord]:
    resolved = finished.resolved
    plan = resolved.plan
    return [
        SecondaryRecord(
            cell=cell,
            a=test.a,
            b=test.b,
            metric=metric,
            effect=IntervalRecord.of(
                paired_interval(differences(finished, cell, test, metric), seed=plan.seed, level=1.0 - plan.alpha)
            ),
        )
        for metric in plan.metric.secondary
        for test in resolved.tests
        for cell in plan.cells
    ]


def command_line() -> str:
    """The words of this process, as a person would type them."""
    return " ".join(["betahead", *sys.argv[1:]])
