"""The section `loss`: one loss, or several with weights, and the settings that belong to them."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator

from betahead.errors import ConfigError
from betahead.losses.objective import Objective, objective_of
from betahead.losses.settings import DEFAULTS
from betahead.runs.section import Section


def _names(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value
    raise ConfigError(f"`loss.kind` must be the name of a loss or a list of names, but is {value!r} instead.")


class LossSection(Section):
    """What is descended: rows of `losses.table.LOSSES`; a setting that none of them reads is refused.

    Args:
        kind: the name of a loss, or a list of names; a rule reads the margin of the first that compares the answers.
        weights: one for each of a list; None for 1 each.
        label_smoothing: share of labels taken to be flipped, in [0, 0.5).
        f_divergence_type: what holds policy and reference together, reverse_kl when None.
        f_alpha_divergence_coef: α of alpha_divergence, 0.5 when None.
        ld_alpha: what the tokens of an answer count beyond the other one's length, in [0, 1]; None for all.
        discopop_tau: temperature of discopop, 0.05 when None.
        simpo_gamma: target margin of simpo, 0.5 when None.
        dr_dpo_beta: temperature of dr_dpo, 1 when None.
    """

    kind: Annotated[str | list[str], BeforeValidator(_names)] = "sigmoid"
    weights: list[float] | None = None
    label_smoothing: float = 0.0
    f_divergence_type: str | None = None
    f_alpha_divergence_coef: float | None = None
    ld_alpha: float | None = None
    discopop_tau: float | None = None
    simpo_gamma: float | None = None
    dr_dpo_beta: float | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are given, by the names of `DPOConfig` and `LossSettings`."""
        return {name: value for name in DEFAULTS if (value := getattr(self, name)) is not None}

    @property
    def objective(self) -> Objective:
        """The losses with their weights and settings."""
        return objective_of(self.kind, self.weights, **self.settings)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        objective_of(self.kind, self.weights, **self.settings)
        return self
