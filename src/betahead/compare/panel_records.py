"""The rows of the panels, as they stand in `evidence.json`."""

from typing import Literal

from betahead.runs.section import Section
from betahead.stats.bootstrap import Interval


class IntervalRecord(Section):
    """An estimate with its bounds, which are null where there is a single unit."""

    estimate: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, interval: Interval) -> "IntervalRecord":
        """The record of an interval."""
        return cls(estimate=interval.estimate, low=interval.low, high=interval.high)


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


class EnvelopeRow(Section):
    """A point of the cloud of reward and KL that no other of the method beats at no more KL.

    Args:
        configuration: its number in the method's pool, from 0.
        share: of training.
    """

    cell: str
    method: str
    kl: float
    reward: float
    configuration: int
    share: float


class DivergedRow(Section):
    """How often training ended in numbers that are not finite, and how far seeds and configurations spread.

    Args:
        sd_over_seeds: between the tuning seeds of a configuration; null where there is one.
        sd_over_configurations: between configurations; null where there is one.
    """

    cell: str
    method: str
    pool: float
    finals: float
    sd_over_seeds: float | None
    sd_over_configurations: float | None


class SpreadRow(Section):
    """How far the runs of A's pool spread against those of B's: standard deviations on dev, and A's minus B's.

    Args:
        metric: of gold; no measure.
        over_seeds: between the tuning seeds of a configuration; null where there is one.
        over_configurations: between the configurations' means over seeds: what all axes of the method make of a run;
            null where there is one configuration.
    """

    cell: str
    metric: str
    a: str
    b: str
    over_seeds: IntervalRecord | None
    over_configurations: IntervalRecord | None


class MeasureRow(Section):
    """A measure of a method's finals where the primary metric is read.

    Args:
        measure: its name.
        finals: that have a number; a run that diverged has none where no side is better.
        value: the mean over them; null where none has one.
    """

    cell: str
    method: str
    measure: str
    finals: int
    value: IntervalRecord | None


class MeasureKind(Section):
    """What a measure is, and in which cells it does not exist."""

    measure: str
    unit: str
    group: Literal["answers", "held-out pairs", "retention", "compute"]
    better: Literal["higher", "lower"] | None
    summary: str
    not_in: list[str]


class NoiseRow(Section):
    """By how much A is better than B on the test prompts of topics with the same planted label noise.

    Args:
        noise: probability that a label is turned round.
        topics: how many have it.
    """

    cell: str
    a: str
    b: str
    noise: float
    topics: int
    effect: IntervalRecord


class ComputeRow(Section):
    """What a run of a method costs, the mean over all runs of pool and finals.

    Args:
        tokens: trained on, in the finals; null where a world's answers have no tokens.
        peak_gib: the most memory that a process has held which ran some of them, all that it did before included.
    """

    method: str
    runs: int
    seconds: float
    tokens: float | None
    peak_gib: float


class BetaRow(Section):
    """Mean β of a topic at the end of the finals: geometric over runs.

    Args:
        relative: over the geometric mean of the topics.
        oracle: the same of the oracle of the world; null where it has none.
    """

    cell: str
    method: str
    topic: int
    beta: float
    relative: float
    oracle: float | None


class AllocationRow(Section):
    """How far a method's log β goes the way that the oracle's goes from topic to topic.

    Args:
        towards_oracle: 1 as far, 0 not at all, below 0 the other way; null where the oracle has one β for all.
    """

    cell: str
    method: str
    towards_oracle: IntervalRecord | None


class AcrossRow(Section):
    """How far the means of A's and B's finals spread over the conditions of a world: standard deviations."""

    world: str
    conditions: int
    a: str
    b: str
    of_a: IntervalRecord
    of_b: IntervalRecord
    difference: IntervalRecord


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
    envelope: list[EnvelopeRow]
    stability: list[DivergedRow]
    spread: list[SpreadRow]
    measures: list[MeasureRow]
    measure_kinds: list[MeasureKind]
    label_noise: list[NoiseRow]
    compute: list[ComputeRow]
    beta: list[BetaRow]
    allocation: list[AllocationRow]
    across: list[AcrossRow]
    headroom: list[HeadroomRow]
