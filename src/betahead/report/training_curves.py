"""Training curves: of several runs on one axis where the quantity is comparable, else each with a figure of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from betahead.report.comparable import loss_unit, margin_unit, same_data, same_margin, same_method, same_reference
from betahead.report.figures import Figure, Panel, Trace, axis, colour, line, marker
from betahead.report.html import Html, element, joined
from betahead.report.numbers import thinned
from betahead.report.run_files import RunFiles
from betahead.report.tables import sentences

MOST_POINTS = 6000
"""Of all curves of a figure together."""

_STEP = "step"
_NO_KL = (
    "KL to the reference was not measured in training. A KL budget or the KL controller measures it there; "
    "betahead eval RUN --save measures it afterwards, and then it stands among the key numbers."
)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A quantity along training.

    Args:
        name: of its figure.
        title: what it is.
        unit: of the vertical axis.
        caption: how to read it.
        keys: metrics by what they are called in the legend; "" where the run's name suffices.
        together: whether runs may share the axis.
        apart: why they do not where they may not.
        layout: of the vertical axis.
    """

    name: str
    title: str
    unit: str
    caption: str
    keys: Mapping[str, str]
    together: Callable[[Sequence[RunFiles]], bool]
    apart: str
    layout: Mapping[str, Any]


def training_curves(runs: Sequence[RunFiles]) -> Html:
    """All curves that the runs logged, and sentences on those that they did not."""
    if not any(run.metrics for run in runs):
        return element("p", "No step was logged: metrics.jsonl is empty or not there.", class_="note")
    figures: list[Html] = []
    notes: list[str] = []
    for number, curve in enumerate(_curves(runs[0])):
        having = [run for run in runs if any(run.logged(key) for key in _all_keys(curve))]
        if not having:
            if curve.name == "kl":
                notes.append(_NO_KL)
            continue
        groups = [having] if len(having) == 1 or curve.together(having) else [[run] for run in having]
        figures += [_figure(_curves(group[0])[number], group, runs, alone=len(groups) > 1).html() for group in groups]
        if len(groups) > 1:
            notes.append(f"{curve.title}: side by side, because {curve.apart}.")
    return joined(
        element("p", "Lines are means over the pairs since the last log step, diamonds of the held-out pairs."),
        sentences("note", notes),
        element("div", *figures, class_="grid"),
    )


def _figure(curve: Curve, group: Sequence[RunFiles], runs: Sequence[RunFiles], *, alone: bool) -> Figure:
    columns: dict[str, list[Any]] = {"run": [], "curve": [], _STEP: [], "value": []}
    traces: list[Trace] = []
    kinds = [(label, key, prefix) for label, key in curve.keys.items() for prefix in ("", "eval_")]
    present = [kind for kind in kinds if any(run.logged(kind[2] + kind[1]) for run in group)]
    several = len(group) > 1
    for run in group:
        number = runs.index(run) if several else 0
        for label, key, prefix in present:
            points = thinned(run.logged(prefix + key), max(2, MOST_POINTS // (len(group) * len(present))))
            if not points:
                continue
            what = ", ".join(word for word in (label, "held out" if prefix else "in training") if word)
            start = len(columns[_STEP])
            for step, value in points:
                for column, item in (("run", run.name), ("curve", what), (_STEP, step), ("value", value)):
                    columns[column].append(item)
            shade = number if several else list(curve.keys).index(label)
            traces.append(
                Trace(
                    name=": ".join(word for word in (run.name if several else "", label) if word) or what,
                    rows=(start, len(columns[_STEP])),
                    take={"x": _STEP, "y": "value"},
                    style=_style(shade, held_out=bool(prefix), second=several and list(curve.keys).index(label) > 0)
                    | {"hovertemplate": f"step %{{x}}<br>%{{y:.4~g}} {curve.unit}<extra></extra>"},
                )
            )
    title = f"{curve.title}, {group[0].name}" if alone else curve.title
    return Figure(
        name=f"{curve.name}-{runs.index(group[0]) + 1}" if alone else curve.name,
        title=title,
        caption=curve.caption,
        columns=columns,
        heads={
            **({"run": "run"} if several else {}),
            "curve": "curve",
            _STEP: "optimizer step",
            "value": f"{curve.title.lower()} ({curve.unit})",
        },
        panels=[Panel(label="", traces=traces)],
        layout={
            "xaxis": axis("optimizer step", rangemode="tozero"),
            "yaxis": axis(curve.unit, **curve.layout),
        },
        height=320,
    )


def _style(number: int, *, held_out: bool, second: bool) -> dict[str, Any]:
    """A line for what is logged in training, marks for what is held out."""
    if held_out:
        return {
            "type": "scatter",
            "mode": "markers",
            "marker": marker(
                number,
                size=10,
                symbol="diamond-open" if second else "diamond",
                line={"width": 2, "color": colour(number)},
            ),
        }
    shape = line(number, **({"dash": "dot"} if second else {}))
    return {"type": "scatter", "mode": "lines+markers", "line": shape, "marker": {"size": 4, "color": colour(number)}}


def _all_keys(curve: Curve) -> list[str]:
    return [prefix + key for key in curve.keys.values() for prefix in ("", "eval_")]


def _curves(run: RunFiles) -> list[Curve]:
    """All curves, with the units that this run has."""
    unit = margin_unit(run)
    return [
        Curve(
            name="loss",
            title="Loss",
            unit=", ".join(word for word in (loss_unit(run), "mean over pairs") if word),
            caption="What is descended, its penalty included.",
            keys={"": "loss"},
            together=same_method,
            apart="each method descends a loss of its own, and on other data it is another quantity",
            layout={},
        ),
        Curve(
            name="accuracy",
            title="Accuracy",
            unit="share of pairs",
            caption="Pairs whose chosen answer has the larger implicit reward. A half is chance.",
            keys={"": "rewards/accuracies"},
            together=same_data,
            apart="the runs have other pairs",
            layout={"range": [-0.03, 1.03], "tickformat": ".0%"},
        ),
        Curve(
            name="margin",
            title="Margin h",
            unit=unit,
            caption=(
                "How far the policy has moved towards the chosen answers and away from the rejected ones. It has no "
                "β in it, so methods can be compared."
            ),
            keys={"": "margins/nats"},
            together=same_margin,
            apart="the runs have other pairs, or margins in another unit",
            layout={},
        ),
        Curve(
            name="rewards",
            title="Rewards",
            unit="β · nats",
            caption=(
                "β times the log-ratio of each answer. The scale is that of the method's β: never compare it "
                "between methods."
            ),
            keys={"chosen": "rewards/chosen", "rejected": "rewards/rejected", "difference": "rewards/margins"},
            together=lambda _: False,
            apart="rewards are scaled by each method's own β and cannot be compared",
            layout={},
        ),
        Curve(
            name="logps",
            title="Log-probability of the answers",
            unit="nats per answer",
            caption="Where both fall, the policy moves away from both answers, though the margin may grow.",
            keys={"chosen": "logps/chosen", "rejected": "logps/rejected"},
            together=same_data,
            apart="the runs have other pairs",
            layout={},
        ),
        Curve(
            name="kl",
            title="KL to the reference",
            unit="nats per answer",
            caption="As it was estimated in training from the policy's own answers.",
            keys={"": "kl/estimate"},
            together=same_reference,
            apart="the runs have other pairs or another reference",
            layout={"rangemode": "tozero"},
        ),
        Curve(
            name="bounds",
            title="Share at the bounds",
            unit="share of pairs",
            caption="Pairs whose β lies on one of its bounds: there the head cannot move it further out.",
            keys={"": "beta/at_bound"},
            together=same_data,
            apart="the runs have other pairs",
            layout={"range": [-0.03, 1.03], "tickformat": ".0%"},
        ),
    ]
