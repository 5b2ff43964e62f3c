"""Log-ratios as colours: one scale for all answers on the page, and its legend."""

import math
from collections.abc import Iterable

import numpy as np

from betahead.report.html import Html, element

UP, DOWN = "0 114 178", "213 94 0"  # blue and vermilion of Okabe and Ito, which colour-blind readers can tell apart
_DEEPEST = 0.62
_ENDS = (0.1, 0.3, 1.0, 3.0, 10.0)
_STEPS = 5


def scale_of(log_ratios: Iterable[float]) -> float:
    """Where the colour is deepest, nats: the first round number that 95 % of the log-ratios do not exceed."""
    sizes = np.abs([ratio for ratio in log_ratios if math.isfinite(ratio)])
    reached = float(np.quantile(sizes, 0.95)) if len(sizes) else 0.0
    return next((end for end in _ENDS if reached <= end), _ENDS[-1])


def colour_of(log_ratio: float, scale: float) -> str:
    """The background of a piece as a style: blue where the policy finds it likelier, vermilion where less likely."""
    if math.isnan(log_ratio):
        return ""
    depth = min(abs(log_ratio) / scale, 1.0) * _DEEPEST
    return f"background:rgb({UP if log_ratio > 0 else DOWN} / {depth:.3f})"


def legend(scale: float) -> Html:
    """What the colours mean, in nats."""
    marks = [scale * step / _STEPS for step in range(-_STEPS, _STEPS + 1)]
    swatches = (element("i", style=colour_of(mark, scale), title=f"{mark:+.3g} nats") for mark in marks)
    return element(
        "div",
        element("span", "log π", element("sub", "θ"), " − log π", element("sub", "ref"), " per token:"),
        element("b", f"−{scale:g}"),
        element("span", swatches, class_="ramp"),
        element("b", f"+{scale:g} nats"),
        element("span", "blue: likelier after training; orange: less likely"),
        class_="legend",
    )
