"""Figures as data: columns of numbers, and traces that say which column is drawn where.

The numbers of a figure stand in the page once. What is drawn, the table behind "data" and the CSV are made from them by
`page.js`, so that they cannot differ.
"""

import math
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from betahead.report.html import Html, data_block, element, printable
from betahead.report.numbers import cut, rounded

COLOURS = 8
"""Of the palette in `page.css`: `--c0` to `--c7`."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot")

INTERVALS = {"y": "place", "error_x.array": "up", "error_x.arrayminus": "down", "text": "hover"}
"""Columns of marks with horizontal intervals, besides the value itself."""

_LEAST = 1e-30  # on a logarithmic axis; what is smaller is an accident of a run that diverged
_HOVER_WIDTH = 46
_HOVER_MOST = 300


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What is drawn of some rows.

    Args:
        name: in the legend; traces of one name go on and off together.
        rows: first row and the one after the last.
        take: columns by the attribute of Plotly that they fill, `error_y.array` for one inside another.
        style: other attributes; a text such as `$c0` or `$c0/0.2` is a colour of the page's palette.
        listed: whether the legend names it.
        hidden: whether it waits for a click on its name.
    """

    name: str
    rows: tuple[int, int]
    take: Mapping[str, str]
    style: Mapping[str, Any]
    listed: bool = True
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Traces that are seen together; of several panels the reader chooses one by its label."""

    label: str
    traces: Sequence[Trace]
    layout: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its numbers.

    Args:
        name: of its place in the page and its CSV.
        title: what it shows, without a unit.
        caption: how to read it.
        columns: by name; all of one length.
        heads: what the table calls the columns, with their unit; a column without a head is only drawn.
        panels: at least one.
        layout: of Plotly, for all panels; axes have titles with units.
        height: in pixels.
        choice: what the panels are, such as `cell`; figures with the same word are set together.
        start: the panel that is seen first.
        wide: whether it takes the whole width.
    """

    name: str
    title: str
    caption: str
    columns: Mapping[str, Sequence[Any]]
    heads: Mapping[str, str]
    panels: Sequence[Panel]
    layout: Mapping[str, Any]
    height: int = 380
    choice: str = ""
    start: int = 0
    wide: bool = False

    def html(self) -> Html:
        """The figure in the page; it is drawn once the page is open."""
        rows = len(next(iter(self.columns.values())))
        assert all(len(column) == rows for column in self.columns.values()), "columns must be of one length"
        return element(
            "figure",
            element("figcaption", element("h3", self.title), element("p", self.caption)),
            element("div", class_="controls"),
            element("div", class_="plot", role="img", aria_label=self.title, data_height=self.height),
            element(
                "details",
                element("summary", "data", element("span", f" {rows:,} rows", class_="quiet")),
                element("div", class_="numbers"),
                class_="data",
            ),
            data_block(self.plain()),
            class_="figure wide" if self.wide else "figure",
            id=self.name,
        )

    def plain(self) -> dict[str, Any]:
        """The figure as JSON values."""
        return {
            "name": self.name,
            "columns": {name: packed(column) for name, column in self.columns.items()},
            "heads": dict(self.heads),
            "choice": self.choice,
            "start": self.start,
            "panels": [
                {
                    "label": printable(panel.label),
                    "layout": dict(panel.layout),
                    "traces": [
                        {
                            "name": printable(trace.name),
                            "rows": list(trace.rows),
                            "take": dict(trace.take),
                            "style": dict(trace.style),
                            "listed": trace.listed,
                            "hidden": trace.hidden,
                        }
                        for trace in panel.traces
                    ],
                }
                for panel in self.panels
            ],
            "layout": dict(self.layout),
        }


def packed(column: Sequence[Any]) -> Any:
    """A column for JSON: numbers rounded; texts that repeat stand once, with the place of each."""
    values = [printable(value) if isinstance(value, str) else rounded(value) for value in column]
    if len(values) > 16 and all(isinstance(value, str) for value in values):
        distinct = sorted(set(values))
        if 2 * len(distinct) < len(values):
            place = {value: at for at, value in enumerate(distinct)}
            return {"of": distinct, "at": [place[value] for value in values]}
    return values


def plotly_text(text: str) -> str:
    """Text for Plotly, which reads a little HTML, its entities and %{…}: nothing of that is in it any more."""
    plain = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("%{", "%&#123;")


def hover_text(text: str) -> str:
    """A prompt for a hover label: cut, wrapped, and no markup but the line breaks."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text[:_HOVER_MOST])
    width = _HOVER_WIDTH // 2 if 3 * wide > min(len(text), _HOVER_MOST) else _HOVER_WIDTH
    lines = [line for part in cut(text, _HOVER_MOST).splitlines() for line in textwrap.wrap(part, width) or [""]]
    return "<br>".join(plotly_text(line) for line in lines)


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis of Plotly with its title."""
    return {"title": {"text": plotly_text(title)}, **more}


def log_axis(title: str, values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis around positive values, whose ticks are 1, 2 and 5 times powers of ten, written out."""
    low, high = max(min(values), _LEAST), min(max(values), 1.0 / _LEAST)
    room = 1.15 if high < 4.0 * low else (high / low) ** 0.06
    low, high = low / room, high * room
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 1.5, 2, 3, 5, 7) if high < 8.0 * low else (1, 2, 5) if high < 1000.0 * low else (1,)
    ticks = [value for decade in decades for factor in factors if low <= (value := factor * 10.0**decade) <= high]
    return axis(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
    )


def around(values: Sequence[float]) -> list[float]:
    """A range with room around the values, so that all panels of a figure have the same one."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) if high > low else max(abs(high) * 0.1, 1e-3)
    return [low - room, high + room]


def colour(number: int) -> str:
    """A colour of the palette, by turns."""
    return f"$c{number % COLOURS}"


def marker(number: int, **more: Any) -> dict[str, Any]:
    """A mark whose colour and shape tell it from the others; past the palette the shape alone goes on."""
    return {"color": colour(number), "symbol": SYMBOLS[(number + number // COLOURS) % len(SYMBOLS)], **more}


def intervals(mark: Mapping[str, Any], thickness: float) -> dict[str, Any]:
    """Marks with a horizontal interval in their colour and words on hover; see `INTERVALS` for their columns."""
    return {
        "type": "scatter",
        "mode": "markers",
        "marker": mark,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "thickness": thickness,
            "width": 0,
            "color": mark["color"],
        },
        "hovertemplate": "%{text}<extra></extra>",
    }


def line(number: int, **more: Any) -> dict[str, Any]:
    """A line whose colour and dashes tell it from the others."""
    return {"color": colour(number), "dash": DASHES[(number // COLOURS) % len(DASHES)], "width": 2, **more}
