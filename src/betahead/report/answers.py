"""Texts: the prompts with the largest and smallest β and their two answers, and what policy and reference say."""

from collections.abc import Sequence
from typing import Any

from betahead.report.comparable import margin_unit
from betahead.report.html import Html, element, joined
from betahead.report.numbers import cut, finite, shown
from betahead.report.run_files import Row, RunFiles
from betahead.report.tables import sentences

MOST_TEXT = 1600
"""Characters of a prompt or an answer."""

_EXTREMES = 5
_SAMPLES = 12
_SAME = 1e-6


def extremes(runs: Sequence[RunFiles]) -> Html:
    """The held-out prompts at both ends of β after training, run by run."""
    parts = [part for run in runs if (part := _of_run(run, alone=len(runs) == 1)) is not None]
    return joined(*parts) if parts else element("p", "No prompt was watched, so there are none to show.", class_="note")


def _of_run(run: RunFiles, *, alone: bool) -> Html | None:
    by_prompt: dict[str, Row] = {}
    for row in run.last:
        by_prompt.setdefault(str(row["prompt_id"]), row)
    rows = sorted(by_prompt.values(), key=lambda row: row["beta"])
    if not rows:
        return None
    head = None if alone else element("h3", run.name)
    if rows[-1]["beta"] - rows[0]["beta"] <= _SAME * rows[-1]["beta"]:
        same = f"β is {shown(rows[0]['beta'])} for every prompt, so none has a larger or smaller one."
        return joined(head, element("p", same, class_="note"))
    count = min(_EXTREMES, len(rows) // 2)
    unit = margin_unit(run)
    without = not any(isinstance(row.get("chosen"), str) for row in rows)
    lines = ["The run folder keeps no answers of the held-out pairs: it was trained before they were kept."]
    return joined(
        head,
        sentences("note", lines if without else []),
        element("h3", "Largest β"),
        element("div", (_pair(row, unit) for row in reversed(rows[-count:])), class_="cards"),
        element("h3", "Smallest β"),
        element("div", (_pair(row, unit) for row in rows[:count]), class_="cards"),
    )


def _pair(row: Row, unit: str) -> Html:
    """A held-out pair with its numbers."""
    numbers = [("β", shown(row["beta"])), ("log PPL", shown(row["log_ppl"])), ("f", shown(row["f"]))]
    numbers.append((f"margin ({unit})", shown(row["margin"])))
    if row["domain"]:
        numbers.append(("domain", str(row["domain"])))
    answers = [(label, row[label]) for label in ("chosen", "rejected") if isinstance(row.get(label), str)]
    shown_numbers = [(label, value) for label, value in numbers if label != "f" or finite(row["f"]) is not None]
    return element(
        "article",
        element("header", (element("span", f"{label} ", element("b", value)) for label, value in shown_numbers)),
        _said(str(row["prompt"]), "said prompt"),
        _answers(answers),
        class_="card",
    )


def samples(runs: Sequence[RunFiles]) -> Html:
    """What the reference and each policy answered, prompt by prompt; runs that share a prompt stand side by side."""
    found: dict[str, tuple[str, list[tuple[str, Any]]]] = {}
    for run in runs:
        for row in run.samples:
            prompt = str(row.get("prompt", ""))
            _, answers = found.setdefault(str(row.get("prompt_id", prompt)), (prompt, []))
            for role in ("reference", "policy"):
                label = role if len(runs) == 1 else f"{role} of {run.name}"
                text = row.get(role)
                shared = role == "reference" and any(
                    other == text for name, other in answers if name.startswith("reference")
                )
                if isinstance(text, str) and not shared:
                    answers.append((label, text))
    if not found:
        return element("p", "No answer was sampled: samples.jsonl is empty or not there.", class_="note")
    cards = [
        element("article", _said(prompt, "said prompt"), _answers(_ordered(answers)), class_="card")
        for prompt, answers in list(found.values())[:_SAMPLES]
    ]
    rest = len(found) - len(cards)
    more = [f"{rest} more prompts are in samples.jsonl."] if rest else []
    return joined(
        element("p", "One answer each, sampled at temperature 1 after training: an impression, not a measurement."),
        element("div", *cards, class_="cards"),
        sentences("note", more),
    )


def _ordered(answers: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """References first; the only one needs no run's name."""
    references = [one for one in answers if one[0].startswith("reference")]
    if len(references) == 1:
        references = [("reference", references[0][1])]
    return [*references, *(one for one in answers if not one[0].startswith("reference"))]


def _answers(answers: Sequence[tuple[str, Any]]) -> Html | None:
    if not answers:
        return None
    return element(
        "div",
        (element("div", element("h4", label), _said(str(text), "said")) for label, text in answers),
        class_="answers",
    )


def _said(text: str, kind: str) -> Html:
    """Words of a person or a model, in the direction of their script."""
    if not text.strip():
        return element("p", "(empty)", class_="said quiet")
    return element("p", cut(text, MOST_TEXT), class_=kind, dir="auto")
