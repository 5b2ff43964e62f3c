"""Where a value lies among those of other prompts: a sentence and a small drawing."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from betahead.report.html import Html, element, joined

_WIDTH, _TOP, _FLOOR = 360.0, 14.0, 78.0
_BINS = 24


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A piece of the real line on the width of a drawing.

    Args:
        low: its left end.
        high: its right end, above `low`.
        log: whether equal ratios are equal lengths; both ends are then positive.
    """

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Float[np.ndarray, " values"], *, log: bool) -> "Axis":
        """The axis that the values just fill, with some room where all are the same; linear if one is not positive."""
        low, high = float(values.min()), float(values.max())
        log = log and low > 0
        if high - low <= 1e-6 * abs(high):
            room = 0.1 * abs(high) or 0.1
            low, high = low - room, high + room
        return cls(low=low, high=high, log=log)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the left end, 1 at the right."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def at(self, share: float) -> float:
        """The value at a share of the width."""
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + share * (self.high - self.low)


def place_plot(name: str, unit: str, value: float, among: Float[np.ndarray, " values"], *, log: bool) -> Html:
    """A histogram of the values with a mark at this one.

    Args:
        name: of the quantity.
        unit: of the axis, "" for none.
        value: where the mark stands; it need not lie within the others.
        among: at least one value.
        log: draw positive values on a logarithmic axis.
    """
    axis = Axis.over(np.append(among, value), log=log)
    places = np.array([axis.share(float(one)) for one in among])
    counts = np.histogram(places, bins=_BINS, range=(0.0, 1.0))[0]
    wide = _WIDTH / _BINS
    bars = (
        _bar(wide * number, wide, count / counts.max(), f"{axis.at(number / _BINS):.4g} to "
             f"{axis.at((number + 1) / _BINS):.4g}: {count} prompts")
        for number, count in enumerate(counts.tolist())
        if count
    )  # fmt: skip
    mark = min(max(axis.share(value), 0.0), 1.0) * _WIDTH
    ticks = (
        element("text", f"{axis.at(share):.3g}", x=f"{share * _WIDTH:g}", y=f"{_FLOOR + 14:g}", text_anchor=anchor)
        for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    scale = ", ".join(part for part in (unit, "logarithmic axis" if axis.log else "") if part)
    caption = f"{name} ({scale})" if scale else name
    drawing = element(
        "svg",
        joined(bars),
        element("line", x1=0, x2=f"{_WIDTH:g}", y1=f"{_FLOOR:g}", y2=f"{_FLOOR:g}", class_="floor"),
        element("line", x1=f"{mark:.2f}", x2=f"{mark:.2f}", y1=4, y2=f"{_FLOOR:g}", class_="mark"),
        element("circle", cx=f"{mark:.2f}", cy=4, r="3.5", class_="mark"),
        joined(ticks),
        viewBox=f"-6 -2 {_WIDTH + 12:.0f} {_FLOOR + 20:.0f}",
        role="img",
        aria_label=f"{name} {value:.4g} among {len(among)} prompts from {among.min():.4g} to {among.max():.4g}",
    )
    return element("figure", element("figcaption", caption), drawing, class_="place")


def _bar(left: float, wide: float, share: float, title: str) -> Html:
    tall = max(share * (_FLOOR - _TOP), 1.0)
    return element(
        "rect",
        element("title", title),
        x=f"{left + 0.5:.2f}",
        width=f"{wide - 1:.2f}",
        y=f"{_FLOOR - tall:.2f}",
        height=f"{tall:.2f}",
    )
