"""The plan of a comparison: one YAML file that says beforehand what is compared, at what cost, and what counts.

Everything that could be chosen after a look at the results stands here: cells, methods with their spaces, budgets,
metrics, the smallest effect worth having, and the comparisons themselves. A change is a new plan.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from betahead.compare.scope import Searches
from betahead.errors import ConfigError
from betahead.runs.complaints import complaint
from betahead.runs.section import Count, Positive, Section, Text, left_out
from betahead.runs.yaml_text import Document, read_yaml
from betahead.stats.paired import EXACT_UNITS, FLIPS, smallest_p
from betahead.stats.power import can_reach, smallest_units
from betahead.worlds.measures import MEASURES, Better

MetricName = str
"""One of `GOLD_METRICS`, or a measure that the worlds of the plan have."""
GOLD_METRICS = ("gold_at_matched_kl", "gold_minus_kappa_kl", "reward", "win_rate")
Claim = Literal["better", "mechanism", "bound"]


def better_side(metric: MetricName) -> Better | None:
    """Which values of a metric are better; None for a measure without a better side."""
    return "higher" if metric in GOLD_METRICS else MEASURES[metric].better


Share = Annotated[float, Field(gt=0, lt=1)]
# Seeds of a plan count on from 1000 times its `seed`: with more of them two plans would share some.
Seeds = Annotated[int, Field(ge=1, le=1000)]
# More than any search needs, and few enough to be drawn at once.
Configurations = Annotated[int, Field(ge=1, le=4096)]


class Range(Section):
    """The values that a search may draw: even on a log scale unless `log: false`."""

    low: float
    high: float
    log: bool = True

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.low < self.high:
            raise ConfigError(f"`low` must be below `high` ({self.high:g}), but is {self.low:g} instead.")
        if self.log and self.low <= 0:
            raise ConfigError(
                f"`low` must be above 0 on a log scale, but is {self.low:g} instead; raise it or add `log: false`."
            )
        return self


class SharedAxes(Section):
    """The hyper-parameters that every method has, and for which all draw the same points.

    Args:
        learning_rate: of the policy.
        beta: the level of β, on the scale of fixed β; a method's world says how its own β starts from it.
    """

    learning_rate: Range
    beta: Range


class MethodSection(Section):
    """A method of the plan.

    Args:
        space: ranges of its own knobs; what is left out keeps the range that its world declares.
        include: configurations that take the place of the first points of its pool, such as published ones, or of
            each search where no two share a point.
    """

    space: dict[str, Range] = Field(default_factory=dict)
    include: list[dict[str, float]] = Field(default_factory=list)


class PoolSection(Section):
    """What every method may spend on tuning.

    Args:
        configurations: Q points, run once; from n × finals on, no two searches share one.
        trials: n ≤ Q of them that one search sees.
        seeds: S tuning seeds of each.
    """

    configurations: Configurations = 32
    trials: Count = 12
    seeds: Seeds = 3

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.trials > self.configurations:
            raise ConfigError(
                f"`trials` must be at most `configurations` ({self.configurations}), but is {self.trials} instead."
            )
        return self


class FinalsSection(Section):
    """Fresh seeds of the winners of the searches; each is one independent unit of the inference."""

    seeds: Seeds = 20


class MetricSection(Section):
    """What is measured.

    Args:
        primary: what the verdicts are about.
        kappas: prices of a nat of KL in `gold_minus_kappa_kl`.
        secondary: reported beside it; no verdict. Gold is selected on dev for itself; a measure is read in the runs
            that the primary metric picked.
    """

    primary: MetricName = "gold_at_matched_kl"
    kappas: Annotated[list[Positive], Field(min_length=1)] = Field(default_factory=lambda: [0.1, 0.3, 1.0])
    secondary: list[MetricName] = Field(default_factory=list)

    @model_validator(mode="after")
    def _different(self) -> Self:
        names = [self.primary, *self.secondary]
        for key, name in (("primary", self.primary), *(("secondary", name) for name in self.secondary)):
            if name not in GOLD_METRICS and name not in MEASURES:
                raise ConfigError(
                    f"`{key}` must be one of {', '.join((*GOLD_METRICS, *MEASURES))}, but is {name!r} instead."
                )
        if self.primary not in GOLD_METRICS and MEASURES[self.primary].better is None:
            able = [name for name, measure in MEASURES.items() if measure.better is not None]
            raise ConfigError(
                f"`primary` must have a better side, but {self.primary} has none; a measure that has is one of "
                f"{', '.join(able)}."
            )
        if len(set(self.kappas)) < len(self.kappas):
            raise ConfigError(f"`kappas` must each be given once, but are {self.kappas} instead.")
        if len(set(names)) < len(names):
            raise ConfigError(
                f"`secondary` must name other metrics than `primary`, each once, but is {self.secondary} instead."
            )
        return self


class ComparisonSection(Section):
    """A against B.

    Args:
        claim: `better` than B; `mechanism`, better than B, than the parent and than the placebo; `bound`, where A may
            read the truth of its world (an oracle), which is no contender.
        parent: what A contains as a special case; None takes what the world declares.
        placebo: A without its information; None takes what the world declares.
    """

    a: Text
    b: Text
    claim: Claim = "better"
    parent: Text | None = None
    placebo: Text | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.a == self.b:
            raise ConfigError(f"`b` must be another method than `a`, but is {self.b!r} too.")
        if self.claim != "mechanism":
            left_out(self, "parent", "the claim is not `mechanism`")
            left_out(self, "placebo", "the claim is not `mechanism`")
        return self


class HeadroomSection(Section):
    """Headroom captured = (learned − fixed)/(oracle − fixed): which methods play the parts."""

    fixed: Text
    oracle: Text
    learned: Annotated[list[Text], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        parts = [self.fixed, self.oracle, *self.learned]
        twice = sorted({name for name in parts if parts.count(name) > 1})
        if twice:
            raise ConfigError(
                f"`learned` must hold other methods than `fixed` and `oracle`, each once, but {twice[0]} plays two "
                "parts."
            )
        return self


class Plan(Section):
    """A whole comparison.

    Args:
        name: of the comparison's folder and of its study in the storage.
        question: in plain words; printed on the report.
        seed: of everything that is drawn: points, searches, seeds, resamples; no seed of a run then reaches 2^31 − 1.
        cells: worlds, as KIND/NAME.
        rope: the smallest difference of the primary metric worth having.
        alpha: level of the family of tests.
        holm: `all` corrects over tests × cells; `per_cell` over the tests of a cell.
        stop: the one stop rule, all finals and no looks in between.
        runs_per_item: most runs of one unit of work.
        seconds_per_run: what a run is expected to take; None lets --dry-run measure it.
        sd: spread of a paired difference between units, if known beforehand, for --dry-run: the median over tests.
        sd_largest: the same of the test that spreads most; needs `sd`.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    question: Text
    seed: Annotated[int, Field(ge=0, lt=2_000_000)] = 0
    cells: Annotated[list[Text], Field(min_length=1)]
    methods: Annotated[dict[str, MethodSection], Field(min_length=2)]
    axes: SharedAxes
    pool: PoolSection = PoolSection()
    finals: FinalsSection = FinalsSection()
    metric: MetricSection = MetricSection()
    rope: Positive
    comparisons: Annotated[list[ComparisonSection], Field(min_length=1)]
    alpha: Share = 0.05
    holm: Literal["all", "per_cell"] = "all"
    stop: Literal["all_finals"] = "all_finals"
    headroom: HeadroomSection | None = None
    runs_per_item: Count = 96
    seconds_per_run: Positive | None = None
    sd: Positive | None = None
    sd_largest: Positive | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for key, values in (
            ("cells", self.cells),
            ("comparisons", [f"{one.a} against {one.b}" for one in self.comparisons]),
        ):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ConfigError(f"`{key}` must each be given once, but {twice[0]} stands there twice.")
        if self.sd_largest is not None and (self.sd is None or self.sd_largest < self.sd):
            raise ConfigError(
                f"`sd_largest` must be at least `sd`, but is {self.sd_largest:g} beside {self.sd or 'none'}; "
                "`sd` is the median."
            )
        key = "trials" if self.searches.scope == "configurations" else "configurations"
        for name, method in self.methods.items():
            if len(method.include) > (most := self.pool.trials if key == "trials" else self.pool.configurations):
                raise ConfigError(
                    f"`methods.{name}.include` must hold at most `pool.{key}` ({most}), but holds "
                    f"{len(method.include)}."
                )
        return self

    @property
    def searches(self) -> Searches:
        """How the searches behind its finals share the pool."""
        pool = self.pool
        return Searches(configurations=pool.configurations, trials=pool.trials, finals=self.finals.seeds)


def load_plan(source: Path | str) -> Plan:
    """The plan in a file (a `Path`) or a text (a `str`).

    Raises:
        ConfigError: one sentence with file and line, key, value and remedy.
    """
    return plan_of(read_yaml(source))


def plan_of(document: Document) -> Plan:
    """The plan in a document.

    Raises:
        ConfigError: as for `load_plan`.
    """
    try:
        return Plan.model_validate(document.values)
    except ValidationError as error:
        raise ConfigError(complaint(error, document, Plan)) from None


def refuse_too_few_finals(finals: int, tests: int, alpha: float) -> None:
    """A sign-flip test has no p below `smallest_p`; one that cannot reach alpha/tests has its answer already.

    Raises:
        ConfigError: names the number that would do.
    """
    if can_reach(finals, comparisons=tests, alpha=alpha):
        return
    if finals > EXACT_UNITS:
        raise ConfigError(
            f"`finals.seeds` must be at most {EXACT_UNITS} for {tests} tests at alpha {alpha:g}, because with more p "
            f"is counted over {FLIPS:,} random flips, but is {finals} instead (smallest p {smallest_p(finals):.2g} "
            f"against {alpha / tests:.2g}); no comparison could be called better."
        )
    raise ConfigError(
        f"`finals.seeds` must be at least {smallest_units(comparisons=tests, alpha=alpha)} for {tests} tests at "
        f"alpha {alpha:g}, because the smallest p of n finals is 2^(1-n), but is {finals} instead "
        f"(smallest p {smallest_p(finals):.2g} against {alpha / tests:.2g}); no comparison could be called better."
    )
