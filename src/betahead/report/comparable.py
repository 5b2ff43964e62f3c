"""Which quantities of several runs may share an axis."""

from collections.abc import Sequence
from typing import Any

from betahead.errors import ConfigError
from betahead.forward.agreed import agreed
from betahead.report.run_files import RunFiles, at
from betahead.runs.config import load_config

NATS = frozenset(
    {"sigmoid", "sigmoid_norm", "robust", "exo_pair", "simpo", "nca_pair", "bco_pair", "bco", "dr_dpo", "sft"}
    | {"aot", "aot_unpaired"}
)
"""Losses that are logarithms of probabilities, whatever they are of."""


def same_data(runs: Sequence[RunFiles]) -> bool:
    """Whether all runs were trained and held out on the same pairs, as far as their records tell."""
    return _same([_data(run) for run in runs])


def same_method(runs: Sequence[RunFiles]) -> bool:
    """Whether β, its learning and the loss are set alike: only then are losses and β-scaled rewards on one scale."""
    return same_data(runs) and _same([(run.of("beta"), run.of("loss")) for run in runs])


def same_margin(runs: Sequence[RunFiles]) -> bool:
    """Whether margins are of the same pairs and in the same unit."""
    return same_data(runs) and _same([margin_unit(run) for run in runs])


def same_reference(runs: Sequence[RunFiles]) -> bool:
    """Whether the runs began at the same model, by its name: KL is to that model."""
    return same_data(runs) and _same([run.of("model") for run in runs])


def margin_unit(run: RunFiles) -> str:
    """The unit of the margin h as rule and loss have it; `nats` where the configuration does not tell."""
    try:
        config = load_config(run.config_text)
        return agreed(config.loss.objective, config.beta.rule()).unit
    except ConfigError:
        return "nats"


def loss_unit(run: RunFiles) -> str:
    """The unit of the loss: nats where all of its parts are logarithms of probabilities, else it has none."""
    try:
        kinds = load_config(run.config_text).loss.objective.kinds
    except ConfigError:
        return ""
    return "nats" if NATS.issuperset(kinds) else ""


def _same(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _data(run: RunFiles) -> Any:
    """What tells one choice of pairs from another: digests, the way of holding out, and its seed."""
    found = run.record.get("data")
    digests = (
        {role: at(one, "sha256") or at(one, "fingerprint") or at(one, "source") for role, one in found.items()}
        if isinstance(found, dict)
        else None
    )
    if isinstance(digests, dict) and "eval" in digests:
        return digests
    return digests, run.of("data", "holdout"), run.of("seed")
