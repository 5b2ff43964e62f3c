"""The figures of β: against log PPL, over training, and where the hidden states lie."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from betahead.report.beta_over_training import over_training
from betahead.report.figures import Figure, Panel, Trace, around, axis, log_axis, marker
from betahead.report.hidden_states import hidden_states
from betahead.report.html import Html, element, joined
from betahead.report.numbers import finite, shown, thinned
from betahead.report.run_files import Row, RunFiles, at
from betahead.report.snapshots import (
    LOG_FROM,
    MOST_PROMPTS,
    append_prompt,
    by_progress,
    domain_of,
    domains,
    percent,
)
from betahead.report.tables import sentences


def beta_figures(runs: Sequence[RunFiles]) -> Html:
    """The figures of all runs, kind by kind; each run has its own, because another β is another scale of an axis."""
    having = [run for run in runs if run.last]
    if not having:
        return element("p", "No prompt was watched: prompts.parquet is empty or not there.", class_="note")
    alone = len(having) == 1
    most = MOST_PROMPTS // len(having)
    kinds: list[list[Figure]] = [[], [], []]
    notes: list[str] = []
    for run in having:
        number, prefix = runs.index(run) + 1, "" if len(runs) == 1 else f"{run.name}: "
        made = (against_log_ppl(run, number, most), over_training(run, number), hidden_states(run, number, most))
        if made[0] is None:
            notes.append(f"{prefix}no prompt has a log PPL, so β is shown over training alone.")
        if made[2] is None:
            notes.append(f"{prefix}the hidden states lie in one point, so there is no plane to show them in.")
        notes += [prefix + sentence for sentence in _remarks(run)]
        for kind, figure in zip(kinds, made, strict=True):
            if figure is not None:
                kind.append(figure if alone else replace(figure, title=f"{figure.title}, {run.name}"))
    first = [replace(figure, wide=alone) for figure in kinds[0]]
    figures = (figure.html() for kind in (first, *kinds[1:]) for figure in kind)
    return joined(sentences("note", notes), element("div", *figures, class_="grid"))


def _remarks(run: RunFiles) -> list[str]:
    """What a reader must know of this run's β before reading its figures."""
    betas = [row["beta"] for row in run.last]
    found: list[str] = []
    if max(betas) - min(betas) <= 1e-6 * max(betas):
        found.append(f"β is {shown(betas[0])} for every prompt here, so the figures of β are flat.")
    by_prompt: dict[str, set[float]] = {}
    for row in run.last:
        by_prompt.setdefault(str(row["prompt_id"]), set()).add(round(row["beta"], 9))
    if any(len(values) > 1 for values in by_prompt.values()):
        found.append("β belongs to the pair or its batch here: pairs of one prompt differ, and every dot is a pair.")
    elif (value := finite(at(run.summary, "beta_end", "log_ppl_correlation"))) is not None:
        found.append(f"After training, the correlation of log β with log PPL over prompts is {shown(value, 2)}.")
    return found


def against_log_ppl(run: RunFiles, number: int, most: int) -> Figure | None:
    """β against log PPL at every snapshot, a colour and a shape for each domain; None where no prompt has a log PPL."""
    rows = [row for row in run.prompts if finite(row["log_ppl"]) is not None]
    if not rows:
        return None
    betas = [row["beta"] for row in rows]
    by_domain = "" if domains(rows) == [None] else ", a colour and a shape for each domain"
    log = min(betas) > 0 and max(betas) / min(betas) >= LOG_FROM
    columns, panels = _snapshots(rows, most)
    vertical = log_axis("β of the prompt", betas) if log else axis("β of the prompt", range=around(betas))
    return Figure(
        name=f"beta-log-ppl-{number}",
        title="β against log PPL",
        caption=(
            f"One dot for each held-out prompt{by_domain}; point at one to read it. Surprising prompts "
            "lie to the right, and a larger β holds closer to the reference."
        ),
        columns=columns,
        heads={**_HEADS},
        panels=panels,
        layout={
            "xaxis": axis("log PPL of the prompt (nats per token)", range=around([row["log_ppl"] for row in rows])),
            "yaxis": vertical,
        },
        height=430,
        choice="share of training",
        start=len(panels) - 1,
    )


_HEADS = {
    "done": "share of training",
    "prompt": "prompt",
    "domain": "domain",
    "log_ppl": "log PPL (nats per token)",
    "beta": "β",
    "f": "f",
    "margin": "margin h",
}


def _snapshots(rows: Sequence[Row], most: int) -> tuple[dict[str, list[Any]], list[Panel]]:
    """Columns and panels: one panel a snapshot, in it one trace a domain."""
    columns: dict[str, list[Any]] = {name: [] for name in (*_HEADS, "hover")}
    panels: list[Panel] = []
    named = domains(rows)
    for progress, snapshot in by_progress(rows):
        traces: list[Trace] = []
        kept = thinned(snapshot, most)
        for at_, domain in enumerate(named):
            start = len(columns["beta"])
            for row in kept:
                if domain is not None and domain_of(row) != domain:
                    continue
                append_prompt(columns, row, progress)
            if len(columns["beta"]) > start:
                traces.append(
                    Trace(
                        name=domain or "held-out prompts",
                        rows=(start, len(columns["beta"])),
                        take={"x": "log_ppl", "y": "beta", "text": "hover"},
                        style={
                            "type": "scatter",
                            "mode": "markers",
                            "marker": marker(at_, size=8, opacity=0.78),
                            "hovertemplate": "%{text}<br><br>log PPL %{x:.3f} · β %{y:.4~g}<extra></extra>",
                        },
                    )
                )
        panels.append(Panel(label=percent(progress), traces=traces))
    return columns, panels
