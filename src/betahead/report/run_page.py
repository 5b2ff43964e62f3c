"""The page of one run or of several beside each other."""

from collections.abc import Sequence
from typing import Any

from betahead.report.answers import extremes, samples
from betahead.report.beta_figures import beta_figures
from betahead.report.comparable import margin_unit, same_data
from betahead.report.facts import facts, method
from betahead.report.html import Html, element, joined
from betahead.report.measured import measured
from betahead.report.numbers import NONE, count, finite, interval, shown
from betahead.report.page import KeyNumber, Section, page
from betahead.report.run_files import RunFiles, at
from betahead.report.tables import sentences, table
from betahead.report.training_curves import training_curves


def run_page(runs: Sequence[RunFiles], footer: str) -> str:
    """The document of these runs; of a folder that holds no run it says so."""
    there = [run for run in runs if not run.empty]
    if not there:
        return _empty_page(runs, footer)
    one = len(runs) == 1
    summary = joined(_problems(runs), None if one else _beside(there))
    sections = [
        *([Section(name="summary", title="Summary", body=summary)] if summary else []),
        Section(name="run", title="What was run", body=facts(there)),
        *_found(there),
    ]
    return page(
        kind="Run" if one else f"{len(runs)} runs",
        title=there[0].name if one else " · ".join(run.name for run in runs),
        lead=method(there[0]) if one else _lead(there),
        keys=_keys(there[0]) if one else [],
        sections=sections,
        footer=footer,
    )


def _found(runs: Sequence[RunFiles]) -> list[Section]:
    numbers = measured(runs)
    return [
        *([Section(name="measured", title="Measured by betahead eval", body=numbers)] if numbers else []),
        Section(name="training", title="Training", body=training_curves(runs)),
        Section(name="beta", title="β", body=beta_figures(runs)),
        Section(name="prompts", title="Largest and smallest β", body=extremes(runs)),
        Section(name="samples", title="Policy beside reference", body=samples(runs)),
    ]


def _lead(runs: Sequence[RunFiles]) -> str:
    if same_data(runs):
        return "The same pairs in every run, so accuracy and margins share their axes; β-scaled rewards never do."
    return "These runs have different pairs, so their curves stand side by side and not on one axis."


def _empty_page(runs: Sequence[RunFiles], footer: str) -> str:
    body = joined(
        element(
            "p",
            "There is nothing to show. A run's folder holds config.yaml, run.json, metrics.jsonl and prompts.parquet; "
            "betahead train leaves one, under the name in output.",
        ),
        _problems(runs),
    )
    return page(
        kind="No run",
        title=" · ".join(run.name for run in runs),
        lead="This folder holds no run." if len(runs) == 1 else "These folders hold no run.",
        keys=[],
        sections=[Section(name="summary", title="What was looked for", body=body)],
        footer=footer,
    )


def _problems(runs: Sequence[RunFiles]) -> Html:
    """What could not be read, and what is not there; sections say for themselves what they lack."""
    broken = [_of(run, line, runs) for run in runs for line in run.broken]
    missing = [_of(run, line, runs) for run in runs for line in run.missing]
    return joined(sentences("warn", broken), sentences("note", missing))


def _of(run: RunFiles, line: str, runs: Sequence[RunFiles]) -> str:
    return line if len(runs) == 1 else f"{run.name}: {line}"


def _keys(run: RunFiles) -> list[KeyNumber]:
    """The numbers of the header, those that the run has."""
    unit = margin_unit(run)
    pairs = run.measured.get("pairs")
    keys = [
        KeyNumber(
            label="held-out accuracy",
            value=_percent(at(run.summary, "held_out", "rewards/accuracies")),
            detail="share of pairs with the chosen answer ahead"
            if pairs is None
            else f"by betahead eval: {interval(at(pairs, 'accuracy'))}",
        ),
        KeyNumber(
            label=f"held-out margin, {unit}",
            value=shown(at(run.summary, "held_out", "margins/nats")),
            detail=f"loss {shown(at(run.summary, 'held_out', 'loss'))}",
        ),
        KeyNumber(
            label="β after training, median", value=shown(at(run.summary, "beta_end", "median")), detail=_range(run)
        ),
        _kl(run),
        KeyNumber(
            label="pairs trained on",
            value=count(at(run.summary, "pairs", "train")),
            detail=f"{count(at(run.summary, 'pairs', 'held_out'))} held out by prompt",
        ),
        KeyNumber(
            label="time",
            value=_time(run.summary.get("seconds")),
            detail=f"on {at(run.record, 'hardware', 'device') or NONE}",
        ),
    ]
    return [one for one in keys if one.value != NONE]


def _kl(run: RunFiles) -> KeyNumber:
    kl = run.measured.get("kl")
    if isinstance(kl, dict):
        error = finite(at(kl, "standard_error"))
        return KeyNumber(
            label="KL to the reference, nats",
            value=shown(at(kl, "nats")),
            detail="per answer, by betahead eval" + ("" if error is None else f"; ± {shown(error, 2)} standard error"),
        )
    logged = run.logged("kl/estimate")
    return KeyNumber(
        label="KL to the reference, nats",
        value=shown(logged[-1][1]) if logged else NONE,
        detail="per answer, the last estimate in training",
    )


def _range(run: RunFiles) -> str:
    found: Any = run.summary.get("beta_end")
    low, high = at(found, "min"), at(found, "max")
    if low == high:
        return "the same for every prompt"
    return f"from {shown(low)} to {shown(high)} over {len({row['prompt_id'] for row in run.last}):,} prompts"


def _percent(value: Any) -> str:
    number = finite(value)
    return NONE if number is None else f"{100 * number:.1f}%"


def _time(value: Any) -> str:
    seconds = finite(value)
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _beside(runs: Sequence[RunFiles]) -> Html:
    """Key numbers of several runs in one table."""
    rows: list[list[str]] = []
    for run in runs:
        values = {one.label: one.value for one in _keys(run)}
        margin = next((value for label, value in values.items() if label.startswith("held-out margin")), NONE)
        rows.append(
            [
                run.name,
                method(run),
                values.get("held-out accuracy", NONE),
                f"{margin} {margin_unit(run)}" if margin != NONE else NONE,
                values.get("β after training, median", NONE),
                _range(run) if at(run.summary, "beta_end") else NONE,
                values.get("KL to the reference, nats", NONE),
                values.get("time", NONE),
            ]
        )
    heads = ["run", "method", "accuracy", "margin", "β, median", "β, range", "KL, nats", "time"]
    return table(heads, rows, numeric=(2, 3, 4, 6, 7), texts=(1, 5))
