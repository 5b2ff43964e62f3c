"""What `betahead eval --save` measured of a run: held-out pairs, lengths of answers, the win rate."""

from collections.abc import Sequence
from typing import Any

from betahead.report.html import Html, element, joined
from betahead.report.numbers import NONE, count, interval, share
from betahead.report.run_files import RunFiles, at, mapped
from betahead.report.tables import details, sentences, table

# Of `pairs` in eval.json: what each number is, and what to hold it against.
_PAIRS = (
    ("accuracy", "accuracy"),
    ("longer_wins", "accuracy of the longer answer"),
    ("gain", "accuracy − longer answer"),
    ("nll", "NLL, nats (a coin: 0.693)"),
    ("brier", "Brier (a coin: 0.25)"),
    ("ece", "ECE, 15 bins"),
    ("slope", "slope (calibrated: 1)"),
    ("margin", "margin"),
    ("beta", "β"),
)
_RESCALED = ("nll", "brier", "ece", "slope")


def measured(runs: Sequence[RunFiles]) -> Html | None:
    """Tables of what was measured, run by run; None where nothing was."""
    parts = [_of_run(run, alone=len(runs) == 1) for run in runs if run.measured]
    return joined(*parts) if parts else None


def _of_run(run: RunFiles, *, alone: bool) -> Html:
    pairs = mapped(run.measured.get("pairs"))
    return joined(
        None if alone else element("h3", run.name),
        _lead(run, pairs) if pairs else None,
        _pair_table(pairs) if pairs else None,
        _domains(pairs),
        _lengths(mapped(run.measured.get("answers"))),
        _win_rate(mapped(run.measured.get("win_rate"))),
    )


def _lead(run: RunFiles, pairs: dict[str, Any]) -> Html:
    shared = run.measured.get("shared_prompts")
    leak = f" {count(shared)} of these prompts were trained on too: they say nothing about new ones." if shared else ""
    return element(
        "p",
        f"{count(pairs.get('pairs'))} pairs of {count(pairs.get('prompts'))} prompts in {run.measured.get('data')}. In "
        f"brackets 95 % intervals from resampling prompts.{leak}",
    )


def _pair_table(pairs: dict[str, Any]) -> Html:
    rescaled = mapped(pairs.get("rescaled"))
    unit = str(pairs.get("margin_unit") or "nats")
    rows: list[list[str]] = []
    for key, label in _PAIRS:
        row = [f"{label}, {unit}" if key == "margin" else label, interval(pairs.get(key))]
        if rescaled:
            row.append(interval(rescaled.get(key)) if key in _RESCALED else "")
        rows.append(row)
    heads = ["held-out pairs", "as the policy says", *(["after one temperature"] if rescaled else [])]
    return table(heads, rows, numeric=(1, 2))


def _domains(pairs: dict[str, Any]) -> Html | None:
    domains = mapped(pairs.get("domains"))
    if not domains:
        return None
    unit = str(pairs.get("margin_unit") or "nats")
    labels = dict(_PAIRS) | {"margin": f"margin, {unit}"}
    plain = [key for key in labels if key not in _RESCALED]
    rows = [
        [name or "(none)", count(at(one, "pairs")), *(interval(at(one, key)) for key in plain)]
        for name, one in domains.items()
    ]
    heads = ["domain", "pairs", *(labels[key] for key in plain)]
    rescaled = {name: one for name, one in domains.items() if at(one, "rescaled") is not None}
    return details(
        "By domain",
        table(heads, rows, numeric=range(1, len(heads))),
        _calibration("domain", labels, domains),
        _calibration("domain, after one temperature of its own", labels, rescaled, "rescaled") if rescaled else None,
    )


def _calibration(head: str, labels: dict[str, str], domains: dict[str, Any], *path: str) -> Html:
    rows = [[name or "(none)", *(interval(at(one, *path, key)) for key in _RESCALED)] for name, one in domains.items()]
    return table([head, *(labels[key] for key in _RESCALED)], rows, numeric=range(1, 5))


def _lengths(answers: dict[str, Any]) -> Html | None:
    if not answers:
        return None
    cells = [interval(answers.get(key)) for key in ("policy_tokens", "reference_tokens", "difference")]
    cuts = share(answers.get("reference_cut"))
    return joined(
        table(
            ["length of answers, tokens", "policy", "reference", "difference"], [["mean", *cells]], numeric=(1, 2, 3)
        ),
        sentences("note", [f"{cuts} of the reference's answers were cut at the longest length that was asked for."])
        if cuts not in {NONE, "0%"}
        else None,
    )


def _win_rate(found: dict[str, Any]) -> Html | None:
    if not found:
        return None
    controlled = found.get("length_controlled")
    equal = "cannot be told: all answers differ in length by the same" if controlled is None else interval(controlled)
    tally = f"{count(found.get('wins'))} / {count(found.get('ties'))} / {count(found.get('losses'))}"
    rows = [
        ["win rate over the reference, a tie counting half", interval(found.get("win_rate"))],
        ["had both answers been equally long", equal],
        ["won / tied / lost", f"{tally} of {count(found.get('matches'))} prompts"],
        ["judge", str(found.get("judge"))],
    ]
    if found.get("policy_grade") is not None:
        grades = f"{interval(found.get('policy_grade'))} against {interval(found.get('reference_grade'))}"
        rows.append(["mean grade, policy against reference", grades])
    canary = mapped(found.get("canary"))
    if canary:
        rows.append(["null answers that lost", f"{count(canary.get('lost'))} of {count(canary.get('matches'))}"])
    if found.get("orders_disagree") is not None:
        rows.append(["prompts on which the two orders disagreed", count(found.get("orders_disagree"))])
    unjudged = mapped(found.get("unjudged"))
    if unjudged:
        rows.append(
            ["left out for want of a verdict", ", ".join(f"{count(many)} × {said}" for said, many in unjudged.items())]
        )
    return table(["policy against reference", ""], rows, texts=(1,))
