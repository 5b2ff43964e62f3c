"""What `evidence.json` holds: the models whose JSON schema is published beside them.

`python -m betahead.compare.evidence` writes evidence.schema.json again.
"""

import json
from pathlib import Path
from typing import Any, Literal

from betahead.runs.section import Section
from betahead.stats.bootstrap import Interval

SCHEMA_VERSION: Literal[1] = 1
SCHEMA = Path(__file__).parent / "evidence.schema.json"


class IntervalRecord(Section):
    """An estimate with its bounds, which are null where there is a single unit."""

    estimate: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "IntervalRecord":
        """The record of an interval."""
        return cls(estimate=interval.estimate, low=interval.low, high=interval.high)


class TestRecord(Section):
    """One pair of methods in one cell on the primary metric."""

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
    finals_to_settle: int | None


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


class SecondaryRecord(Section):
    """A difference on a metric without a verdict."""

    cell: str
    a: str
    b: str
    metric: str
    effect: IntervalRecord


class BudgetRow(Section):
    """What a method could and did spend: the currency is trials, whatever the number of its knobs."""

    method: str
    axes: list[str]
    configurations: int
    trials: int
    tuning_seeds: int
    pool_runs: int
    final_runs: int
    seconds: float
    picked_at_an_edge: float


class HeadlineRow(Section):
    """What a method's finals are worth."""

    cell: str
    method: str
    metric: str
    value: IntervalRecord


class BestOfNRow(Section):
    """What a search of n trials wins on dev."""

    cell: str
    method: str
    n: int
    value: IntervalRecord


class FrontierRow(Section):
    """Gold at a KL of the world, each KL tuned for itself, on test."""

    cell: str
    method: str
    kl: float
    gold: IntervalRecord
    share_short: float


class CheckpointRow(Section):
    """The finals along training: means over the runs that are still finite there; null where none is."""

    cell: str
    method: str
    share: float
    reward: float | None
    kl: float | None
    win_rate: float | None


class CloudRow(Section):
    """A configuration of the pool at the end of training, on dev: mean over the tuning seeds that stayed finite."""

    cell: str
    method: str
    configuration: dict[str, float]
    reward: float | None
    kl: float | None


class DivergedRow(Section):
    """How often training ended in numbers that are not finite, and how far seeds and configurations spread."""

    cell: str
    method: str
    pool: float
    finals: float
    sd_over_seeds: float
    sd_over_configurations: float


class BetaRow(Section):
    """Mean β of a topic at the end of the finals: geometric over runs."""

    cell: str
    method: str
    topic: int
    beta: float


class HeadroomRow(Section):
    """Headroom captured = (learned − fixed)/(oracle − fixed); null where the oracle wins less than the ROPE."""

    cell: str
    method: str
    headroom: IntervalRecord
    captured: IntervalRecord | None


class Panels(Section):
    """The tables behind the verdicts."""

    budget: list[BudgetRow]
    headline: list[HeadlineRow]
    best_of_n: list[BestOfNRow]
    frontier: list[FrontierRow]
    checkpoints: list[CheckpointRow]
    cloud: list[CloudRow]
    stability: list[DivergedRow]
    beta: list[BetaRow]
    headroom: list[HeadroomRow]


class Evidence(Section):
    """Everything a comparison found, and what it was fixed to look for.

    Args:
        plan: the resolved plan, whose canonical form has the hash `plan_hash`.
        tests_per_family: p-values that Holm corrected together.
    """

    schema_version: Literal[1]
    name: str
    question: str
    plan_hash: str
    plan: dict[str, Any]
    test_opened: str
    metric: str
    rope: float
    alpha: float
    tests_per_family: int
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
