"""The section `loss` of a configuration."""

import re
from pathlib import Path
from typing import Any

import pytest

from betahead.errors import ConfigError
from betahead.losses.settings import DEFAULTS
from betahead.losses.table import LOSSES
from betahead.runs.build import arguments_of
from betahead.runs.config import Config, dump_config, load_config

TEXT = """
model: {name: some/model}
data: {train: pairs.jsonl}
beta: {kind: fixed}
train: {use_cpu: true}
output: runs/one
"""


def config(*overrides: str) -> Config:
    return load_config(TEXT, overrides)


MESSAGES = {
    "loss.kind=dpo": f"command line: `loss.kind` must be one of {', '.join(sorted(LOSSES))}, but is 'dpo' instead.",
    "loss.kind=3": "command line: `loss.kind` must be the name of a loss or a list of names, but is 3 instead.",
    "loss.kind=[sigmoid,3]": (
        "command line: `loss.kind` must be the name of a loss or a list of names, but is ['sigmoid', 3] instead."
    ),
    "loss.kind=[sigmoid,sft] loss.weights=[1]": (
        "command line: `loss.weights` must be a list of one positive number for each of sigmoid, sft, but is [1.0] "
        "instead."
    ),
    "loss.simpo_gamma=1": (
        "command line: `loss.simpo_gamma` must be left out with `loss.kind` sigmoid, which does not read it, but is "
        "1.0 instead; it belongs to simpo."
    ),
    "loss.kind=simpo reference.cache=live": (
        "command line: `reference.cache` must be left out with `loss.kind` simpo, which reads no reference, but is "
        "'live' instead; remove it."
    ),
    "train.ld_alpha=0.5": (
        "command line: `train.ld_alpha` must not be set in `train`, but is 0.5 instead; say `loss.ld_alpha`."
    ),
    "train.loss_weights=[1]": (
        "command line: `train.loss_weights` must not be set in `train`, but is [1] instead; say `loss.weights`."
    ),
}


@pytest.mark.parametrize("overrides", MESSAGES)
def test_a_mistake_is_one_sentence(overrides: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(MESSAGES[overrides])}$"):
        config(*overrides.split())


EVERY: dict[str, tuple[str, dict[str, Any]]] = {
    "one": ("loss.kind=hinge", {"loss_type": "hinge", "loss_weights": None}),
    "several": (
        "loss.kind=[sigmoid,sft] loss.weights=[1,0.2] loss.label_smoothing=0.1",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "label_smoothing": 0.1},
    ),
    "settings": (
        "loss.kind=[discopop,dr_dpo] loss.discopop_tau=0.1 loss.dr_dpo_beta=2 loss.ld_alpha=0.5 "
        "loss.f_divergence_type=alpha_divergence loss.f_alpha_divergence_coef=0.2",
        {
            "discopop_tau": 0.1,
            "dr_dpo_beta": 2.0,
            "ld_alpha": 0.5,
            "f_divergence_type": "alpha_divergence",
            "f_alpha_divergence_coef": 0.2,
        },
    ),
    "no reference": ("loss.kind=simpo loss.simpo_gamma=1", {"simpo_gamma": 1.0, "reference_cache": None}),
}


@pytest.mark.parametrize("name", EVERY)
def test_the_section_becomes_the_arguments_and_is_read_back_as_it_was(name: str, tmp_path: Path) -> None:
    overrides, wanted = EVERY[name]
    made = config(*overrides.split())
    args = arguments_of(made, tmp_path)
    assert {key: getattr(args, key) for key in wanted} == wanted
    assert args.objective == made.loss.objective
    assert load_config(dump_config(made)) == made


def test_what_is_not_given_is_the_default_of_the_loss(tmp_path: Path) -> None:
    args = arguments_of(config(), tmp_path)
    assert {key: getattr(args, key) for key in DEFAULTS} == DEFAULTS


def test_every_loss_of_a_list_must_be_one_that_the_rule_is_made_for() -> None:
    sentence = r"^command line: `loss\.kind` must be sigmoid with this beta rule, but is hinge instead;"
    with pytest.raises(ConfigError, match=sentence):
        config("beta={kind: learned, learning: {kind: perspective}}", "loss.kind=[sigmoid,hinge]")


@pytest.mark.parametrize(
    "rule",
    [
        *("alpha_dpo", "gamma_po", "amapo", "adaptive_scaling", "madpo"),
        "{kind: learned, learning: {kind: perspective}}",
        "{kind: learned, learning: {kind: heldout}}",
        "{kind: learned, learning: {kind: budget, target_kl: 5, allocation: perspective}}",
    ],
)
def test_an_anchor_goes_with_a_rule_made_for_one_loss(rule: str) -> None:
    section = rule if rule.startswith("{") else f"{{kind: {rule}}}"
    assert config(f"beta={section}", "loss.kind=[sft,sigmoid]").loss.objective.compared == ("sigmoid",)
