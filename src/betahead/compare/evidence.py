"""What `evidence.json` holds: the models whose JSON schema is published beside them.

`python -m betahead.compare.evidence` writes evidence.schema.json again.
"""

import json
from pathlib import Path
from typing import Any, Literal

from betahead.compare.panel_records import IntervalRecord, Panels
from betahead.compare.scope import Scope
from betahead.runs.section import Section

SCHEMA_VERSION: Literal[4] = 4
SCHEMA = Path(__file__).parent / "evidence.schema.json"


class SettleRecord(Section):
    """The fewest finals that end an inconclusive test in four of five replays of the whole verdict.

    Null where fifty times the finals there were do not.

    Args:
        if_zero: were there no difference.
        if_twice_rope: were the difference 2·ROPE.
        if_as_seen: were it what was seen.
    """

    if_zero: int | None
    if_twice_rope: int | None
    if_as_seen: int | None


class TestRecord(Section):
    """One pair of methods in one cell on the primary metric.

    Args:
        in_family: whether its p-value is among those that Holm corrects together; a method with the very same runs
            under another name has p = 1 before anything is run, and stays out.
    """

    __test__ = False

    cell: str
    a: str
    b: str
    verdict: Literal["better", "worse", "equivalent", "inconclusive"]
    effect: IntervalRecord
    ninety: IntervalRecord
    p: float
    p_holm: float
    wins: IntervalRecord
    sd: float
    finals: int
    minimum_detectable_effect: float
    finals_to_settle: SettleRecord | None
    in_family: bool


class ClaimCell(Section):
    """A claim in one cell, and the verdict against each opponent that it needs.

    Args:
        no_better_than: of a mechanism that is not shown: those that are as good or better.
        beta_ratio: the largest β of a topic over the smallest, at the end of A's finals; null where A has none.
    """

    cell: str
    verdict: Literal["better", "worse", "equivalent", "inconclusive", "shown", "not shown", "open"]
    against: dict[str, Literal["better", "worse", "equivalent", "inconclusive"]]
    no_better_than: list[Literal["opponent", "parent", "placebo"]]
    beta_ratio: float | None


class ClaimRecord(Section):
    """A claim over all cells: how many say what."""

    a: str
    b: str
    claim: Literal["better", "mechanism", "bound"]
    cells: list[ClaimCell]
    counts: dict[str, int]
    sentence: str


class LeftOutRecord(Section):
    """A test of a method with the very same runs under another name."""

    cell: str
    a: str
    b: str


class FamilyRecord(Section):
    """What Holm corrects together.

    Args:
        corrected: over what.
        sizes: p-values of each family.
        left_out: tests that are in none.
        sentence: all of it in words.
    """

    corrected: Literal["over tests × cells", "over the tests of each cell"]
    sizes: list[int]
    left_out: list[LeftOutRecord]
    sentence: str


class CodeRecord(Section):
    """Which code the numbers are of: the version of the package, and SHA-256 over the files that decide numbers."""

    version: str
    digest: str


class SecondaryRecord(Section):
    """A difference on a metric without a verdict: by how much A is better; A minus B where neither side is better."""

    cell: str
    a: str
    b: str
    metric: str
    better: Literal["higher", "lower"] | None
    effect: IntervalRecord


class Evidence(Section):
    """Everything a comparison found, and what it was fixed to look for.

    Args:
        plan: the resolved plan, whose canonical form has the hash `plan_hash`.
        scope: what intervals and p-values are about: other configurations too, this pool of them, or one search.
        better: which values of the metric are better; the effect of a test is by how much A is better.
        tests_per_family: p-values that Holm corrected together, in the largest family.
        family: what those are.
        code: that ran and judged it; no part of the plan's hash.
    """

    schema_version: Literal[4]
    name: str
    question: str
    plan_hash: str
    plan: dict[str, Any]
    test_opened: str
    scope: Scope
    metric: str
    better: Literal["higher", "lower"]
    rope: float
    alpha: float
    tests_per_family: int
    family: FamilyRecord
    code: CodeRecord
    software: dict[str, Any]
    hardware: dict[str, Any]
    command: str
    claims: list[ClaimRecord]
    tests: list[TestRecord]
    secondary: list[SecondaryRecord]
    panels: Panels


def published_schema() -> str:
    """The JSON schema of `evidence.json`, as the file that ships."""
    return json.dumps(Evidence.model_json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(published_schema(), encoding="utf-8")
