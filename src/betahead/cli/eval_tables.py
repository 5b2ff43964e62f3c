"""What `betahead eval` prints for a person."""

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

Estimate = dict[str, float | None]

_ROWS = {
    "accuracy": "accuracy",
    "longer_wins": "longer answer wins",
    "gain": "accuracy − longer answer",
    "nll": "NLL (a coin: 0.693)",
    "brier": "Brier (a coin: 0.25)",
    "ece": "ECE, 15 bins",
    "slope": "slope (calibrated: 1)",
    "margin": "margin",
    "beta": "β",
}
_CALIBRATION = ("nll", "brier", "ece", "slope")
_FORMATS = {"gain": "+.3f", "margin": "+.3f", "beta": ".4g", "slope": ".3g", "difference": "+.1f", "tokens": ".1f"}
_WIDTH = 140


def print_evaluation(found: dict[str, Any], rows: str) -> None:
    """Tables and lines of an evaluation, on stdout; `rows` says what became of the rows of its data."""
    console = Console()
    if not console.is_terminal:  # A file or a pipe gets whole lines instead of rich's 80 columns.
        console = Console(width=_WIDTH)

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    pairs = found["pairs"]
    line(f"{found['data']}: {pairs['pairs']:,} pairs, {pairs['prompts']:,} distinct prompts")
    if rows:
        line(rows)
    if found["shared_prompts"] != 0:
        line(_leak_line(found["shared_prompts"], pairs["prompts"]))
    console.print(_pair_table(pairs))
    if pairs["domains"]:
        for one in _by_domain(pairs["domains"], pairs["margin_unit"]):
            console.print(one)
    if found["kl"] is not None:
        line(_kl_line(found["kl"]))
    if found["answers"] is not None:
        line(_length_line(found["answers"]))
    if found["win_rate"] is not None:
        for text in _win_lines(found["win_rate"]):
            line(text)


def _pair_table(pairs: dict[str, Any]) -> Table:
    unit, rescaled = pairs["margin_unit"], pairs["rescaled"]
    headings = ["", "mean and its 95 % interval, resampling prompts"]
    table = Table(*headings, *([] if rescaled is None else ["after one temperature, fitted on other prompts"]))
    for key, label in _ROWS.items():
        form = _FORMATS.get(key, ".3f")
        cells = [Text(f"{label}, {unit}" if key == "margin" else label), _interval(pairs[key], form)]
        if rescaled is not None:
            cells.append(_interval(rescaled[key], form) if key in _CALIBRATION else Text(""))
        table.add_row(*cells)
    return table


def _leak_line(shared: int | None, prompts: int) -> str:
    if shared is None:
        return "leak unknown: the run's training data are no longer there to compare the prompts with"
    return (
        f"leak: {shared:,} of the {prompts:,} prompts were trained on too; what is measured on them says nothing about "
        "new ones"
    )


def _by_domain(domains: dict[str, Any], unit: str) -> list[Table]:
    """All rows of the table of pairs, by domain: they are too many columns for one table."""
    labels = _ROWS | {"margin": f"margin, {unit}"}
    found = [_domain_table("domain", [key for key in labels if key not in _CALIBRATION], labels, domains)]
    found.append(_domain_table("domain", _CALIBRATION, labels, domains))
    rescaled = {name: part["rescaled"] for name, part in domains.items() if part["rescaled"] is not None}
    if rescaled:
        found.append(_domain_table("domain, after one temperature of its own", _CALIBRATION, labels, rescaled))
    return found


def _domain_table(heading: str, keys: Sequence[str], labels: dict[str, str], domains: dict[str, Any]) -> Table:
    counted = all("pairs" in part for part in domains.values())
    table = Table(heading, *(["pairs"] if counted else []), *(labels[key] for key in keys))
    for name, part in domains.items():
        cells = [f"{part['pairs']:,}"] if counted else []
        table.add_row(Text(name or "(none)"), *cells, *(_interval(part[key], _FORMATS.get(key, ".3f")) for key in keys))
    return table


def _interval(estimate: Estimate, form: str) -> Text:
    return Text(_words(estimate, form))


def _words(estimate: Estimate, form: str) -> str:
    value, low, high = (estimate[name] for name in ("estimate", "low", "high"))
    if value is None or math.isnan(value):
        return "unknown"
    if low is None or high is None:
        return f"{value:{form}} [one prompt]"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _kl_line(kl: dict[str, Any]) -> str:
    error = kl["standard_error"]
    spread = "" if error is None else f" ± {error:.2g} (standard error)"
    return (
        f"KL to the reference: {kl['nats']:.4g}{spread} nats per answer, from {kl['answers']} answers of "
        f"{kl['mean_tokens']:.0f} tokens on average to {kl['prompts']} prompts; {kl['cut']:.0%} of the answers were "
        f"cut at {kl['max_new_tokens']} tokens"
    )


def _length_line(answers: dict[str, Any]) -> str:
    return (
        f"Length of answers: policy {_words(answers['policy_tokens'], '.1f')} tokens, reference "
        f"{_words(answers['reference_tokens'], '.1f')}, difference {_words(answers['difference'], '+.1f')}; "
        f"{answers['reference_cut']:.0%} of the reference's were cut"
    )


def _win_lines(found: dict[str, Any]) -> list[str]:
    controlled = found["length_controlled"]
    equal = "cannot be told, for all differ in length by the same" if controlled is None else _words(controlled, ".3f")
    lines = [
        f"Win rate over the reference: {_words(found['win_rate'], '.3f')}; had answers been equally long {equal}",
        f"Judged by the {found['judge']}: {found['wins']} won, {found['ties']} tied, {found['losses']} lost of "
        f"{found['matches']} prompts; mean length {found['policy_characters']['estimate']:.0f} and "
        f"{found['reference_characters']['estimate']:.0f} characters; null answers lost {found['canary']['lost']} of "
        f"{found['canary']['matches']} matches",
    ]
    if found["policy_grade"] is not None:
        lines.append(
            f"Mean grade: policy {_words(found['policy_grade'], '.4g')}, reference "
            f"{_words(found['reference_grade'], '.4g')}"
        )
    if found["cost"] is not None:
        first = found["first_preferred"]
        bias = "" if first is None else f"; {first:.0%} of the verdicts chose the answer that stood first"
        lines.append(f"The two orders disagreed on {found['orders_disagree']} prompts{bias}")
        lines.append(_cost_line(found["cost"]))
    if found["unjudged"]:
        count = sum(found["unjudged"].values())
        kinds = ", ".join(f"{number} × {said}" for said, number in found["unjudged"].items())
        lines.append(f"Left out for want of a verdict: {count} of {found['matches']} prompts ({kinds})")
    return lines


def _cost_line(cost: dict[str, Any]) -> str:
    requests, counted = cost["requests"], cost["counted"]
    asked = f"The judge was asked {requests:,} times ({cost['kept']:,} replies were kept from before)"
    if cost["tokens_in"] is None:
        return f"{asked}; what that cost is unknown, for the endpoint counts no tokens"
    price = "" if cost["price"] is None else f", at the given prices {cost['price']:.4g}"
    partly = "" if counted == requests else f" for the {counted:,} whose tokens it counts; the rest is unknown"
    return f"{asked}: {cost['tokens_in']:,} tokens in, {cost['tokens_out']:,} out{price}{partly}"
