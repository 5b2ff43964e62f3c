"""The settings of losses, and which of them a list of losses reads."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from betahead.errors import ConfigError
from betahead.losses.divergences import DIVERGENCES
from betahead.losses.table import LOSSES, Loss


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What losses can be told, by TRL's names where TRL has the setting.

    Args:
        label_smoothing: share of labels taken to be flipped, in [0, 0.5).
        discopop_tau: temperature of the blend of `discopop`, above 0.
        simpo_gamma: target margin of `simpo` in units of β·h, at least 0.
        dr_dpo_beta: temperature β′ of `dr_dpo`, above 0.
        f_divergence_type: what holds policy and reference together: a name of `losses.divergences.DIVERGENCES`.
        f_alpha_divergence_coef: α of `alpha_divergence`.
        ld_alpha: what the tokens of an answer count beyond the other one's length, in [0, 1]; None counts them in full
            without asking for them.
    """

    label_smoothing: float = 0.0
    discopop_tau: float = 0.05
    simpo_gamma: float = 0.5
    dr_dpo_beta: float = 1.0
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    ld_alpha: float | None = None

    def of(self, row: Loss) -> dict[str, float]:
        """The keywords of a row's function."""
        names = row.settings if row.smooths == "no" else ("label_smoothing", *row.settings)
        return {name: getattr(self, name) for name in names}

    def check(self, kinds: Sequence[str]) -> None:
        """Refuse values out of range, and values other than the default that none of these losses reads.

        Args:
            kinds: names of losses that exist.

        Raises:
            ConfigError: for the first of them.
        """
        for name, (allowed, low, high, inside) in _RANGES.items():
            _check_number(name, getattr(self, name), allowed, low, high, inside)
        if self.ld_alpha is not None:
            _check_number("ld_alpha", self.ld_alpha, "in [0, 1]", 0.0, 1.0, "[]")
        if self.f_divergence_type not in DIVERGENCES:
            raise ConfigError(
                f"`loss.f_divergence_type` must be one of {', '.join(DIVERGENCES)}, but is {self.f_divergence_type!r} "
                "instead."
            )
        self._check_smoothing(kinds)
        self._check_divergence(kinds)
        shown = " and ".join(kinds)
        read = {name for kind in kinds for name in LOSSES[kind].settings}
        for name in ("discopop_tau", "simpo_gamma", "dr_dpo_beta"):
            value = getattr(self, name)
            if name not in read and value != DEFAULTS[name]:
                readers = " or ".join(kind for kind, row in LOSSES.items() if name in row.settings)
                raise ConfigError(
                    f"`loss.{name}` must be left out with `loss.kind` {shown}, which does not read it, but is {value} "
                    f"instead; it belongs to {readers}."
                )
        if self.ld_alpha is not None and all(LOSSES[kind].reads == "chosen answer" for kind in kinds):
            raise ConfigError(
                f"`loss.ld_alpha` must be left out with `loss.kind` {shown}, which compares no lengths, but is "
                f"{self.ld_alpha} instead; remove it."
            )

    def _check_smoothing(self, kinds: Sequence[str]) -> None:
        shown, smoothing = " and ".join(kinds), self.label_smoothing
        if smoothing > 0.0 and all(LOSSES[kind].smooths == "no" for kind in kinds):
            raise ConfigError(
                f"`loss.label_smoothing` must be 0 with `loss.kind` {shown}, but is {smoothing} instead; "
                "use sigmoid or robust to smooth labels."
            )
        if smoothing == 0.0 and (compulsory := [kind for kind in kinds if LOSSES[kind].smooths == "must"]):
            raise ConfigError(
                f"`loss.label_smoothing` must be above 0 with `loss.kind` {compulsory[0]}, but is {smoothing} instead; "
                "its paper recommends 1e-3."
            )

    def _check_divergence(self, kinds: Sequence[str]) -> None:
        without = [kind for kind in kinds if not LOSSES[kind].other_divergences]
        if not any(LOSSES[kind].needs_reference for kind in kinds):
            without = list(kinds)
        if self.f_divergence_type != "reverse_kl" and without:
            able = [kind for kind, row in LOSSES.items() if row.other_divergences and row.needs_reference]
            raise ConfigError(
                f"`loss.f_divergence_type` must be reverse_kl with `loss.kind` {without[0]}, but is "
                f"{self.f_divergence_type} instead; another divergence has a meaning for {', '.join(able)}."
            )
        if self.f_divergence_type != "alpha_divergence" and self.f_alpha_divergence_coef != 0.5:
            raise ConfigError(
                "`loss.f_alpha_divergence_coef` must be left out with `loss.f_divergence_type` "
                f"{self.f_divergence_type}, but is {self.f_alpha_divergence_coef} instead; it belongs to "
                "alpha_divergence."
            )


DEFAULTS = {field.name: field.default for field in fields(LossSettings)}
"""The values that mean that a setting was not touched."""

ROOM = 1e12
"""Squares, products and ratios of a few numbers up to it and down to its inverse are still numbers of float32."""

_INFINITE = float("inf")
_RANGES: dict[str, tuple[str, float, float, str]] = {
    "label_smoothing": ("in [0, 0.5)", 0.0, 0.5, "[)"),
    "discopop_tau": ("a positive number", 0.0, _INFINITE, "()"),
    "simpo_gamma": ("a number of at least 0", 0.0, _INFINITE, "[)"),
    "dr_dpo_beta": ("a positive number", 0.0, _INFINITE, "()"),
    "f_alpha_divergence_coef": ("a number", -_INFINITE, _INFINITE, "()"),
}


def _check_number(name: str, value: Any, allowed: str, low: float, high: float, ends: str) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits or (value == low and ends[0] == "(") or (value == high and ends[1] == ")"):
        raise ConfigError(f"`loss.{name}` must be {allowed}, but is {value!r} instead.")
    if abs(value) > ROOM:
        raise ConfigError(f"`loss.{name}` must be {allowed} and at most 1e12 in size, but is {value!r} instead.")
    if low == 0.0 and ends[0] == "(" and value < 1 / ROOM:
        raise ConfigError(f"`loss.{name}` must be {allowed} and at least 1e-12, but is {value!r} instead.")
