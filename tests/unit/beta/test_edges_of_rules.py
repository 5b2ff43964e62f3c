"""Settings at the edges of what they may be: each is refused in a sentence, or leaves a finite loss and gradient."""

import inspect
import itertools
import math
import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import readings
import tiny
import torch

from betahead.beta.learned import LearnedBeta
from betahead.beta.learning_kinds import LEARNING
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.errors import ConfigError
from betahead.losses.preference import preference_loss

EDGES = (0, -1.0, 1e-300, 1e-12, 0.5, 1.0, 7, 1e12, 1e300, math.nan, math.inf, True)
REST = [rule for rule in METHODS if rule is not LearnedBeta]


def words_of(rule: type[BetaRule]) -> Iterator[dict[str, str]]:
    """Every choice among the arguments that are words, together."""
    hints = typing.get_type_hints(rule.__init__)
    choices = {
        name: typing.get_args(hint)
        for name, hint in hints.items()
        if typing.get_origin(hint) is Literal and name in inspect.signature(rule).parameters
    }
    for chosen in itertools.product(*choices.values()):
        yield dict(zip(choices, chosen, strict=True))


def numbers_of(rule: type[BetaRule]) -> list[str]:
    """The arguments that are one number."""
    hints = typing.get_type_hints(rule.__init__)
    kinds = {name: {hints[name], *typing.get_args(hints[name])} for name in inspect.signature(rule).parameters}
    return [name for name, of in kinds.items() if of & {float, int}]


CASES = [pytest.param(rule, name, id=f"{rule.kind}-{name}") for rule in REST for name in numbers_of(rule)]


def refused(make: Any) -> BetaRule | None:
    """The rule, or None where a sentence about a key refuses it."""
    try:
        return make()
    except ConfigError as error:
        text = str(error)
        assert text.startswith("`beta.") and text.endswith(".") and "\n" not in text, text
        return None


def check_finite(rule: BetaRule, about: object) -> None:
    """A few steps of training, and one of evaluation."""
    for step, moved in enumerate((0.0, 1.0, 30.0)):
        rule.train(step < 2)
        features, margin = readings.given(readings.reading(6, seed=step, moved=moved, dtype=torch.float32), rule)
        features = replace(tiny.features(6, step), pair=features.pair, columns=features.columns)
        margin.requires_grad_()
        shaping = rule(features, margin)
        assert bool((shaping.beta > 0).all()), about
        loss = preference_loss(margin, shaping).mean()
        leaves = [margin, *(one for one in rule.parameters() if one.requires_grad)]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        assert loss.isfinite(), about
        assert all(one is None or one.isfinite().all() for one in gradients), about
        rule.step_taken(lambda t: t)
        if rule.kl_sampling is not None:
            rule.kl_measured(0.5 + 3.0 * step)
    assert all(value.isfinite().all() for value in rule.state_dict().values()), about


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("rule", "name"), CASES)
def test_a_number_of_a_rule_at_its_edge(rule: type[BetaRule], name: str) -> None:
    accepted = 0
    for words, value in itertools.product(words_of(rule), EDGES):
        made = refused(lambda words=words, value=value: rule(**words, **{name: value}))
        if made is not None:
            accepted += 1
            check_finite(made, (words, name, value))
    assert accepted > 0


OF_LEARNING = {
    "joint": ("prior_weight",),
    "perspective": ("rho",),
    "heldout": ("held_out_share", "held_out_pairs", "held_out_every"),
    "budget": ("target_kl", "level_rate", "kl_every", "kl_prompts", "kl_tokens"),
    "none": (),
}
OF_HEADS = ("initial_beta", "max_correction", "ppl_exponent", "learning_rate")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", LEARNING)
def test_a_number_of_a_learned_beta_at_its_edge(kind: str) -> None:
    learning: dict[str, Any] = {"kind": kind} | ({"target_kl": 1.0} if kind == "budget" else {})
    for name, value in itertools.product((*OF_HEADS, *OF_LEARNING[kind]), EDGES):
        beside = name in OF_HEADS or name == "prior_weight"
        settings = {"learning": learning, name: value} if beside else {"learning": learning | {name: value}}
        for more in ({}, {"regulariser": "linear"}) if kind == "perspective" else ({},):
            made = refused(lambda settings=settings, more=more: LearnedBeta(**settings, **more))
            if made is not None:
                made.build(tiny.HIDDEN, seed=0)
                tiny.scattered(made)
                check_finite(made, (kind, name, value))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("low", [0.0, 1e-300, 1e-12, 0.1, math.nan])
@pytest.mark.parametrize("high", [0.1, 1e12, 1e300, math.inf])
def test_bounds_at_their_edge(low: float, high: float) -> None:
    for form in ("banded", "direct"):
        made = refused(lambda form=form: LearnedBeta(form=form, bounds=(low, high)))
        if made is not None:
            made.build(tiny.HIDDEN, seed=0)
            tiny.scattered(made)
            check_finite(made, (low, high))
