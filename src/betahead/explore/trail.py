"""The prompts that were looked at one after the other, and how β moved with them."""

import numpy as np

from betahead.evaluate.prompts import PromptView
from betahead.explore.place import Axis
from betahead.report.html import Html, element, joined

Trail = tuple[PromptView, ...]
"""Oldest first."""

KEPT = 40
_HEADS = ("", "prompt", "β", "change", "log PPL", "f")
_WIDTH, _HEIGHT, _LEFT = 380.0, 110.0, 50.0


def extended(trail: Trail, view: PromptView) -> Trail:
    """The trail with one more prompt at its end; the same prompt again adds nothing, the oldest go first."""
    if trail and trail[-1].prompt == view.prompt:
        return trail
    return (*trail, view)[-KEPT:]


def trail_card(trail: Trail) -> Html:
    """A drawing of β over the prompts and the table behind it, newest first; nothing for an empty trail."""
    if not trail:
        return Html("")
    parts = element("div", _drawing(trail), _table(trail), class_="trail")
    return element("section", element("h3", "β as the prompt was edited"), parts)


def _drawing(trail: Trail) -> Html | None:
    betas = np.array([view.beta for view in trail])
    if len(trail) < 2 or not np.isfinite(betas).all():
        return None
    axis = Axis.over(betas, log=True)
    step = (_WIDTH - _LEFT - 12) / (len(trail) - 1)
    dots = [(_LEFT + step * n, _HEIGHT - 26 - (_HEIGHT - 40) * axis.share(beta)) for n, beta in enumerate(betas)]
    marks = (
        element("circle", element("title", f"{number}: β {view.beta:.4g}, {short(view.prompt)}"), cx=f"{x:.1f}",
                cy=f"{y:.1f}", r=4)
        for number, (view, (x, y)) in enumerate(zip(trail, dots, strict=True), 1)
    )  # fmt: skip
    heights = ((axis.at(share), _HEIGHT - 22 - (_HEIGHT - 40) * share) for share in (0.0, 1.0))
    labels = (element("text", f"{beta:.3g}", x=f"{_LEFT - 10:g}", y=f"{y:g}", text_anchor="end") for beta, y in heights)
    drawing = element(
        "svg",
        element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in dots)),
        joined(marks),
        joined(labels),
        element("text", "first prompt", x=f"{_LEFT:g}", y=f"{_HEIGHT - 4:g}", text_anchor="start"),
        element("text", "latest", x=f"{_WIDTH - 12:g}", y=f"{_HEIGHT - 4:g}", text_anchor="end"),
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        role="img",
        aria_label=f"β of {len(trail)} prompts, from {betas[0]:.4g} to {betas[-1]:.4g}",
    )
    return element("figure", element("figcaption", f"β(x){', logarithmic' if axis.log else ''}"), drawing)


def _table(trail: Trail) -> Html:
    before = (None, *trail[:-1])
    rows = (
        element(
            "tr",
            element("td", number),
            element("td", short(view.prompt), class_="words"),
            element("td", f"{view.beta:.4g}", data_value=repr(view.beta)),
            element("td", "" if last is None else f"×{view.beta / last.beta:.3g}"),
            element("td", "–" if view.log_ppl is None else f"{view.log_ppl:.3f}"),
            element("td", "–" if view.f is None else f"{view.f:.3f}"),
        )
        for number, view, last in reversed(list(zip(range(1, len(trail) + 1), trail, before, strict=True)))
    )
    heads = (element("th", name, class_="words" if name == "prompt" else None) for name in _HEADS)
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows))
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label="the prompts so far")


def short(prompt: str, kept: int = 80) -> str:
    """The prompt on one line, cut in its middle: edits at either end stay in sight."""
    line = " ".join(prompt.split())
    half = kept // 2
    return line if len(line) <= kept else f"{line[: half - 1]} … {line[-half + 2 :]}"
