"""Sections `beta` that are made of the constructors of rules."""

from inspect import signature
from typing import Any

import pytest

from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.errors import ConfigError
from betahead.runs.config import Config, dump_config, load_config
from betahead.runs.rule_sections import RuleSection, section_of

BASE = "model: {name: some/model}\ndata: {train: pairs.jsonl}\noutput: runs/one\n"
PLAIN = [rule for rule in METHODS if rule not in (FixedBeta, LearnedBeta)]


def config(beta: str) -> Config:
    return load_config(f"{BASE}beta: {beta}\n")


@pytest.mark.parametrize("rule", PLAIN, ids=lambda rule: rule.kind)
def test_every_rule_of_the_table_can_be_named_with_its_defaults(rule: type[BetaRule]) -> None:
    section = config(f"{{kind: {rule.kind}}}").beta
    assert isinstance(section, RuleSection)
    made = section.rule()
    assert type(made) is rule and made.settings == rule().settings
    assert made is not section.rule(), "every call makes a new rule"


@pytest.mark.parametrize("rule", PLAIN, ids=lambda rule: rule.kind)
def test_the_keys_are_the_arguments_and_come_back_from_the_written_config(rule: type[BetaRule]) -> None:
    section = section_of(rule)
    assert set(section.model_fields) == {"kind", *signature(rule).parameters}
    assert section.__doc__ == rule.__doc__
    first = config(f"{{kind: {rule.kind}}}")
    assert load_config(dump_config(first)).beta == first.beta


def test_a_value_reaches_the_rule() -> None:
    made = config("{kind: beta_dpo, gap_scale: beta, response: 6, drop: 0.0, seed: 3}").beta.rule()
    assert isinstance(made, BatchAdaptiveBeta)
    assert (made.gap_scale, made.response, made.drop, made.seed) == ("beta", 6.0, 0.0, 3)
    assert made.initial_beta == BatchAdaptiveBeta().initial_beta


MISTAKES = {
    "{kind: beta_dpo, drop: 1.0}": "`beta.drop` must be in [0, 1), but is 1.0 instead.",
    "{kind: beta_dpo, gap_scale: nats}": "`beta.gap_scale` must be one of raw, beta, but is 'nats' instead.",
    "{kind: beta_dpo, drop: often}": "`beta.drop` must be a number, but is 'often' instead.",
    "{kind: beta_dpo, seed: 1.5}": "`beta.seed` must be an integer, but is 1.5 instead.",
    "{kind: beta_dpo, dorp: 0.1}": "`beta.dorp` is not a key of `beta`; did you mean `drop`?",
    "{kind: adaptive_scaling, rho: 0.7}": (
        "`beta.rho` must be in (0, log 2) with the linear regulariser, but is 0.7 instead."
    ),
    "{kind: quantile_controller, warmup: 0}": ("`beta.warmup` must be a whole number of at least 1, but is 0 instead."),
    "{kind: fixed, beta: 1.0e-300}": "`beta.beta` must be a positive number and at least 1e-12, but is 1e-300 instead.",
    "{kind: learned, learning: {kind: none}, ppl_exponent: 0, couple: true}": (
        "`beta.couple` has no effect with a beta that follows nothing of the policy, but is True here; remove it."
    ),
    "{kind: learned, learning: {kind: none}, ppl_from: reference, couple: true}": (
        "`beta.couple` has no effect with a beta that follows nothing of the policy, but is True here; remove it."
    ),
    "{kind: amapo, beta: .inf}": "`beta.beta` must be a finite number, but is inf instead.",
}


@pytest.mark.parametrize("beta", MISTAKES)
def test_a_mistake_is_one_sentence_with_the_key(beta: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(beta)
    assert str(caught.value).endswith(f": {MISTAKES[beta]}")


def test_a_rule_with_an_argument_that_has_no_default_cannot_be_named() -> None:
    class Bare(FixedBeta):
        def __init__(self, beta: float, other: Any = None) -> None:
            super().__init__(beta)

    with pytest.raises(
        AssertionError, match=r"Bare must have defaults to be named in a config, but \['beta'\] have none"
    ):
        section_of(Bare)
