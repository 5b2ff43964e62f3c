"""Settings of the rules that read the pair: what they are by default, and what is refused in which words."""

import re
from typing import Any

import pytest
import torch

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.live import check_reference
from betahead.beta.madpo import RewardMarginWeight
from betahead.beta.mallows import DispersionBeta
from betahead.beta.odpo import OffsetTarget
from betahead.beta.rule import BetaRule, Need
from betahead.beta.wpo import OnPolicyWeight
from betahead.errors import ConfigError, DataError
from betahead.types import PromptFeatures, Shaping

RULES: tuple[type[BetaRule], ...] = (OffsetTarget, RewardMarginWeight, OnPolicyWeight, DispersionBeta, PerturbedBeta)


@pytest.mark.parametrize("rule", RULES)
def test_the_settings_of_a_rule_make_the_same_rule(rule: type[BetaRule]) -> None:
    made = rule()
    again = rule(**made.settings)
    assert again.settings == made.settings
    assert again.needs == made.needs and again.reads == "pair"
    assert not list(made.parameters())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: OffsetTarget(beta=0), "`beta.beta` must be a positive number, but is 0 instead."),
        (lambda: OffsetTarget(alpha=-1), "`beta.alpha` must be a number of at least 0, but is -1 instead."),
        (lambda: OffsetTarget(scale="square"), "`beta.scale` must be one of log, linear, but is 'square' instead."),  # pyright: ignore
        (lambda: RewardMarginWeight(c_max=1.0), "`beta.c_max` must be a number above 1, but is 1.0 instead."),
        (lambda: RewardMarginWeight(c_min=1.0), "`beta.c_min` must be in (0, 1), but is 1.0 instead."),
        (lambda: RewardMarginWeight(steepness=0), "`beta.steepness` must be a positive number, but is 0 instead."),
        (lambda: RewardMarginWeight(threshold=0), "`beta.threshold` must be a positive number, but is 0 instead."),
        (lambda: OnPolicyWeight(cap=0), "`beta.cap` must be a positive number or None, but is 0 instead."),
        (lambda: DispersionBeta(scale=-0.1), "`beta.scale` must be a positive number or None, but is -0.1 instead."),
        (lambda: PerturbedBeta(perturbation=1.0), "`beta.perturbation` must be in (0, 1), but is 1.0 instead."),
        (lambda: PerturbedBeta(initial_beta=0), "`beta.initial_beta` must be a positive number, but is 0 instead."),
        (
            lambda: PerturbedBeta(bounds=(0.1, 0.2)),
            "`beta.bounds` must be two numbers with 0 < low <= initial_beta <= high, but are [0.1, 0.2] around 0.01 "
            "instead.",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_setting_out_of_range_is_refused(make: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        make()


@pytest.mark.parametrize("rule", [OffsetTarget, RewardMarginWeight])
def test_a_rule_without_its_column_says_which_one_it_lacks(rule: type[BetaRule]) -> None:
    (name,) = rule.columns
    wanted = (
        f"`{name}` must be a column of the data with a number for each pair, but is missing; add it, or use another "
        "`beta.kind`."
    )
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        rule()(PromptFeatures(pairs=1), torch.zeros(1))


def test_madpo_is_made_for_the_logistic_loss() -> None:
    wanted = (
        "`loss.kind` must be sigmoid with this beta rule, but is ipo instead; its mathematics is made for no other "
        "loss."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        RewardMarginWeight().check_link("ipo")


def test_epsilon_dpo_refuses_a_reference_that_spoke_beforehand() -> None:
    rule = PerturbedBeta()
    assert Need.PERTURBED in rule.needs
    wanted = (
        "`precompute_ref_log_probs` must be False with `beta.kind: epsilon_dpo`, which compares the logits of policy "
        "and reference at every step, but is True instead; in a configuration say `reference.cache: live`."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        check_reference(rule, precomputed=True)
    wanted = (
        "`reference_cache` must be None with `beta.kind: epsilon_dpo`, which compares the logits of policy and "
        "reference at every step, but is 'scores' instead; leave it out."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        check_reference(rule, precomputed=False, cache="scores")
    check_reference(rule, precomputed=False)
    for other in (OffsetTarget(), OnPolicyWeight(), DispersionBeta()):
        check_reference(other, precomputed=True, cache="scores")


def test_another_beta_leaves_the_offset_of_odpo_as_it_was() -> None:
    rule, one = OffsetTarget(0.1, scale="linear"), torch.ones(1)
    shaping = rule(PromptFeatures(pairs=1, columns={"strength": 0.5 * one}), one)
    changed: Shaping = rule.reshaped(shaping, 0.4 * one)
    assert float(shaping.beta * shaping.target) == pytest.approx(0.5)
    assert float(changed.beta * changed.target) == pytest.approx(0.5)


def test_the_level_of_epsilon_dpo_is_state_moves_in_training_only_and_is_held_by_bounds() -> None:
    rule, features = PerturbedBeta(0.1, 0.5, bounds=(0.08, 0.12)), PromptFeatures(pairs=2, pair=_loosening(2))
    assert rule.bounds == pytest.approx((0.08 / 1.5, 0.24))
    rule.eval()
    rule(features, torch.zeros(2))
    rule.step_taken(lambda t: t)
    with torch.no_grad():
        rule.train()(features, torch.zeros(2))
    rule.step_taken(lambda t: t)
    assert float(rule.base) == pytest.approx(0.1)
    rule(features, torch.zeros(2, requires_grad=True))
    rule.step_taken(lambda t: t)
    assert float(rule.state_dict()["base"]) == pytest.approx(0.08)
    assert float(rule.log_metrics()["beta/base"]) == pytest.approx(0.08)
    assert rule.drifts_from is None and PerturbedBeta(0.1).drifts_from == 0.1


def _loosening(pairs: int) -> Any:
    from betahead.types import PairReading

    ones = torch.ones(pairs)
    names = ("chosen_logps", "rejected_logps", "reference_chosen_logps", "reference_rejected_logps")
    scores = dict.fromkeys(names, -ones)
    return PairReading(
        **scores, chosen_tokens=ones.long(), rejected_tokens=ones.long(), looser=0.1 * ones, tighter=-0.1 * ones
    )
