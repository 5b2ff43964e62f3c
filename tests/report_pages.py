"""Pages of real runs and of a real comparison, made on the spot, and what can be read out of a page."""

import json
import re
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import tiny_run

from betahead.compare.cells import world_of
from betahead.compare.comparison import compare, storage_of
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve

HOSTILE = [
    "</script><img src=x onerror=\"window.hacked='img'\">",
    "<a href=\"javascript:window.hacked='link'\">click me</a> <b>bold</b> %{x} $c0",
    "<script>window.hacked='script'</script> & <!-- <script> &lt;i&gt;",
    "' onmouseover='window.hacked=1' \" style=\"position:fixed\" \u202eright to left\u202c \u2028 line",
    '=HYPERLINK("http://evil.example","x")',
    "https://evil.example/" + "W" * 300,
]
"""Prompts that try to become part of a page."""

PLAN = """\
name: tiny
question: Is β by joint descent better than one β, and is there anything to win?
cells: [tabular/half_noise, tabular/rare_noise]
methods: {fixed: {}, joint_plus: {}, "permuted:joint_plus": {}, oracle: {}}
axes:
  learning_rate: {low: 0.02, high: 0.1}
  beta: {low: 0.1, high: 0.3}
pool: {configurations: 2, trials: 2, seeds: 1}
finals: {seeds: 8}
rope: 0.01
comparisons:
  - {a: joint_plus, b: fixed, claim: mechanism}
  - {a: oracle, b: fixed, claim: bound}
headroom: {fixed: fixed, oracle: oracle, learned: [joint_plus]}
"""


def _interval(estimate: float) -> dict[str, float]:
    return {"estimate": estimate, "low": estimate - 0.125, "high": estimate + 0.125}


EVALUATION: dict[str, Any] = {
    "data": HOSTILE[2],
    "shared_prompts": 3,
    "pairs": {
        "pairs": 40,
        "prompts": 20,
        "margin_unit": "nats",
        **{name: _interval(0.5) for name in ("longer_wins", "gain", "brier", "ece", "slope", "margin", "beta")},
        "accuracy": _interval(0.75),
        "nll": _interval(0.625),
        "rescaled": {name: _interval(0.375) for name in ("nll", "brier", "ece", "slope")},
        "domains": {
            HOSTILE[0]: {
                "pairs": 7,
                **{name: _interval(0.5) for name in ("accuracy", "longer_wins", "gain", "margin", "beta")},
                **{name: _interval(0.25) for name in ("nll", "brier", "ece", "slope")},
                "rescaled": {name: _interval(0.1875) for name in ("nll", "brier", "ece", "slope")},
            },
            "one prompt": {"pairs": 1, "accuracy": {"estimate": 1.0, "low": None, "high": None}, "rescaled": None},
        },
    },
    "kl": {"nats": 3.5, "standard_error": 0.25},
    "answers": {
        **{name: _interval(20.0) for name in ("policy_tokens", "reference_tokens", "difference")},
        "reference_cut": 0.25,
    },
    "win_rate": {
        "judge": HOSTILE[0],
        "wins": 5,
        "ties": 2,
        "losses": 3,
        "matches": 11,
        "win_rate": _interval(0.6),
        "length_controlled": None,
        "policy_grade": _interval(7.0),
        "reference_grade": _interval(6.0),
        "canary": {"lost": 8, "matches": 8},
        "orders_disagree": 4,
        "unjudged": {HOSTILE[2]: 1},
    },
}
"""What eval.json holds, with markup where data or a judge could put it."""


def hostile_rows() -> list[dict[str, Any]]:
    """Pairs whose prompts, answers and domains hold markup, so many that some of each are held out."""
    rows: list[dict[str, Any]] = tiny_run.pair_rows()
    for number, text in enumerate(HOSTILE):
        for turn in range(4):
            answers = {"chosen": f"Yes. {text}", "rejected": f"No. {text}"}
            rows.append({"prompt": f"{text} {turn}", **answers, "domain": HOSTILE[number % 2]})
    return rows


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@cache
def learned_run(above: Path) -> Path:
    """A finished run with a learned β on hostile pairs; one for a whole session of tests."""
    return tiny_run.finished_run(_made(above / "report-learned"), "evaluate.samples=4", rows=hostile_rows()).path


@cache
def fixed_run(above: Path) -> Path:
    """A finished run with one β on the same pairs."""
    changes = ("beta={kind: fixed, beta: 0.1}", "evaluate.samples=4")
    return tiny_run.finished_run(_made(above / "report-fixed"), *changes, rows=hostile_rows()).path


@cache
def comparison(above: Path) -> Path:
    """The folder of a finished comparison of two tabular worlds."""
    folder = _made(above / "report-compared")
    (folder / "tiny.yaml").write_text(PLAN, encoding="utf-8")
    resolved = resolve(load_plan(folder / "tiny.yaml"), world_of)
    compare(resolved, folder, storage_of(folder), "betahead compare tiny.yaml")
    return folder


def figures_of(page: str) -> list[dict[str, Any]]:
    """The figures of a page as their data blocks hold them."""
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return [json.loads(block) for block in blocks]


def column(figure: dict[str, Any], name: str) -> list[Any]:
    """A column of a figure, unpacked."""
    packed = figure["columns"][name]
    return packed if isinstance(packed, list) else [packed["of"][at] for at in packed["at"]]


def plotly_specs(figure: dict[str, Any]) -> list[dict[str, Any]]:
    """What Plotly draws of each panel, with colours that Plotly knows in the place of the page's."""

    def themed(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("$"):
            return "rgba(1,2,3,0.5)"
        if isinstance(value, list):
            return [themed(one) for one in value]
        return {key: themed(one) for key, one in value.items()} if isinstance(value, dict) else value

    specs: list[dict[str, Any]] = []
    for panel in figure["panels"]:
        traces = []
        for trace in panel["traces"]:
            found = themed(trace["style"])
            for path, name in trace["take"].items():
                *above, last = path.split(".")
                target = found
                for key in above:
                    target = target.setdefault(key, {})
                target[last] = column(figure, name)[slice(*trace["rows"])]
            traces.append(found)
        specs.append({"data": traces, "layout": themed({**figure["layout"], **panel["layout"]})})
    return specs


_WRONG: list[Any] = [None, True, -1, 1e308, "nan", "<b>", [], ["x"], {}, {"estimate": "x"}]


def spoiled(value: Any, random: Random) -> Any:
    """The value with something of another kind in a few of its places."""
    if random.random() < 0.04:
        return random.choice(_WRONG)
    if isinstance(value, dict):
        return {key: spoiled(one, random) for key, one in value.items() if random.random() > 0.01}
    return [spoiled(one, random) for one in value] if isinstance(value, list) else value
