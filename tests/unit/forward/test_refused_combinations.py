"""Rules and losses: every combination trains, or is refused in one sentence that names both."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from betahead.beta.control_levels import MatchedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.gamma_po import AllocatedTarget
from betahead.beta.given import GivenBeta
from betahead.beta.kl_controller import KLController
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.errors import ConfigError
from betahead.forward.agreed import agreed
from betahead.losses.objective import objective_of
from betahead.losses.table import LOSSES
from betahead.types import PairLogps, PromptFeatures, ReferenceScores, Shaping

RULES = {rule.kind: rule for rule in METHODS}
OF_TARGETS = {"odpo", "alpha_dpo", "gamma_po", "amapo"}
OF_WEIGHTS = {"wpo", "madpo", "beta_dpo", "dama"}
OF_MEANS = {"alpha_dpo", "gamma_po", "amapo"}
"""Rules whose margin is the policy's own."""

WITHOUT_A_PLACE = {"nca_pair", "bco_pair", "bco", "sppo_hard", "apo_zero", "apo_down", "cal_dpo", "aot_unpaired"}
"""Losses of both log-ratios apart, in which a target has no place."""
OF_REFERENCE = {"epsilon_dpo", "mallows", "kl_controller"}
"""Rules whose β follows the reference."""

TOGETHER = {"dr_dpo", "aot", "aot_unpaired"}
"""Losses in which the pairs of a pass act on one another."""
OF_ONE_OVER_BETA = {"ipo", "sppo_hard", "cal_dpo"}
"""Losses that a weight of β₀/β would push as 1/β²."""
OF_BATCHES = {"beta_dpo", "dama", "quantile_controller"}
"""Rules that read the margins of a batch and are made for every loss."""


def made(kind: str) -> BetaRule:
    rule = RULES[kind]()
    if isinstance(rule, LearnedBeta):
        rule.build(4, seed=0)
    return rule


def refusal(rule: str, loss: str | list[str], smoothing: float = 0.0) -> str | None:
    """The sentence, or None where the two go together."""
    needed = 0.1 if isinstance(loss, str) and LOSSES[loss].smooths == "must" else 0.0
    try:
        agreed(objective_of(loss, label_smoothing=smoothing or needed), made(rule))
    except ConfigError as error:
        return str(error)
    return None


def test_the_attributes_of_rules_are_what_they_do() -> None:
    assert {kind for kind in RULES if made(kind).moves_target} == OF_TARGETS
    assert {kind for kind in RULES if made(kind).weighs} == OF_WEIGHTS
    assert {kind for kind in RULES if made(kind).margin_of == "policy"} == OF_MEANS


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_goes_with_every_loss_that_has_a_place_for_what_it_gives(rule: str) -> None:
    links = made(rule).links
    for loss in LOSSES:
        wrong = (
            (rule != "fixed" and loss == "sft")
            or (links is not None and loss not in links)
            or (rule in OF_TARGETS and loss in WITHOUT_A_PLACE)
            or (rule in OF_WEIGHTS and loss in TOGETHER)
            or (rule in OF_MEANS and loss in WITHOUT_A_PLACE | {"aot"})
            or (rule in OF_REFERENCE | {"odpo"} and loss == "simpo")
            or (rule == "kl_controller" and loss in OF_ONE_OVER_BETA)
        )
        sentence = refusal(rule, loss)
        assert (sentence is not None) == wrong, (loss, sentence)
        if sentence is not None:
            assert sentence.startswith("`loss.kind` must be ") and f"but is {loss} instead" in sentence
            assert sentence.endswith(".") and sentence.count(". ") == 0


def test_weights_of_pairs_are_refused_where_pairs_act_on_one_another() -> None:
    assert refusal("wpo", "aot") == (
        "`loss.kind` must be a loss that keeps pairs apart with `beta.kind: wpo`, which weighs them, but is aot "
        "instead, in which they act on one another; use another of the two."
    )
    # An anchor on the chosen answers is not weighed.
    assert refusal("wpo", ["sigmoid", "sft"]) is None


EVEN: dict[str, Callable[[], BetaRule]] = {
    "given": lambda: GivenBeta(push="even"),
    "kl_controller": KLController,
    "learned": lambda: LearnedBeta(learning={"kind": "budget", "target_kl": 1.0, "allocation": "none"}),
}


@pytest.mark.parametrize("kind", EVEN)
def test_a_rule_that_evens_out_the_push_is_refused_with_losses_of_one_over_beta(kind: str) -> None:
    fitting = ", ".join(loss for loss in LOSSES if loss not in OF_ONE_OVER_BETA | {"sft"})
    remedy = "" if kind == "learned" else ", or use `beta.push: beta`"
    for loss in OF_ONE_OVER_BETA:
        for named in (loss, ["sigmoid", loss]):
            with pytest.raises(ConfigError) as found:
                agreed(objective_of(named), EVEN[kind]())
            assert str(found.value) == (
                f"`loss.kind` must be one of {fitting} with `beta.kind: {kind}` that evens out how hard pairs push, "
                f"but is {loss} instead, which has 1/β in it; use another loss{remedy}."
            )
    for plain in (GivenBeta(), KLController(push="beta"), LearnedBeta(learning="none")):
        assert agreed(objective_of("ipo"), plain).kinds == ("ipo",)


def first_push(loss: str, shaping: Shaping) -> Tensor:
    """The slope by the log-probability of the chosen answer, of a policy that has not moved."""
    zero = torch.zeros_like(shaping.beta)
    chosen, one = zero.clone().requires_grad_(), torch.ones(len(zero), dtype=torch.long)
    policy = PairLogps(chosen=chosen, rejected=zero, chosen_tokens=one, rejected_tokens=one)
    reference = ReferenceScores(chosen_logps=zero, rejected_logps=zero)
    smoothing = 0.1 if LOSSES[loss].smooths == "must" else 0.0
    objective = objective_of(loss, label_smoothing=smoothing)
    shift = zero.sum() if LOSSES[loss].has_shift else None
    (slope,) = torch.autograd.grad(objective.losses(policy, reference, shaping, shift=shift).sum(), chosen)
    return slope


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "sft"])
def test_an_even_push_is_the_same_at_every_beta_with_each_loss_that_it_is_accepted_with(loss: str) -> None:
    features = PromptFeatures(pairs=1)
    for beta in (0.001, 0.01, 0.1, 1.0):
        controller = KLController(initial_beta=0.1).double()
        controller.log_ratio.fill_(math.log(beta / 0.1))
        still = torch.zeros(1, dtype=torch.float64)
        shaping = controller(features, still)
        assert shaping.beta.item() == pytest.approx(beta)
        found, plain = first_push(loss, shaping), first_push(loss, FixedBeta(0.1)(features, still))
        same = found.item() == pytest.approx(plain.item(), rel=1e-6)
        assert same == (loss not in OF_ONE_OVER_BETA or beta == 0.1), (beta, found, plain)
        assert LOSSES[loss].push_is_beta == (loss not in OF_ONE_OVER_BETA)


@pytest.mark.parametrize("rule", RULES)
def test_an_anchor_beside_a_loss_changes_nothing_and_alone_leaves_a_rule_nothing_to_do(rule: str) -> None:
    assert refusal(rule, ["sigmoid", "sft"]) is None
    alone = (
        f"`loss.kind` must be a loss that compares two answers with `beta.kind: {rule}`, or a list with one, but is "
        "sft instead, which knows no β; add one, or use `beta.kind: fixed`."
    )
    assert refusal(rule, "sft") == (None if rule == "fixed" else alone)


def test_a_rule_that_follows_the_reference_is_refused_with_a_loss_that_has_none() -> None:
    for rule in OF_REFERENCE:
        assert refusal(rule, ["simpo", "sft"]) == (
            f"`loss.kind` must be a loss that compares with a reference with `beta.kind: {rule}`, whose β follows one, "
            "but is simpo instead; use another of the two."
        )
    sentence = refusal("odpo", "simpo")
    assert sentence is not None and "which moves a target, but is simpo instead." in sentence
    # The weights of WPO are the policy's own.
    assert refusal("wpo", "simpo") is None


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_reads_margins_is_refused_with_losses_whose_margins_are_not_one(rule: str) -> None:
    for losses in (["simpo", "sigmoid"], ["sigmoid", "ipo"], ["hinge", "sigmoid_norm"]):
        if rule not in OF_BATCHES:
            assert "of one margin" not in (refusal(rule, losses) or "")
            continue
        assert refusal(rule, losses) == (
            f"`loss.kind` must be losses of one margin with `beta.kind: {rule}`, which reads it, but is "
            f"{', '.join(losses)} instead, whose margins differ in their reference or in what they are a mean of; use "
            "one of them, or `beta.kind: fixed`."
        )
        # Each by itself is a margin, as in the β-SimPO of its authors; so are losses that share theirs, and an anchor.
        assert all(refusal(rule, loss) is None for loss in losses)
        assert refusal(rule, ["sigmoid", "hinge", "nca_pair", "sft"]) is None
    assert refusal("fixed", ["simpo", "sigmoid"]) is None


@pytest.mark.parametrize("rule", RULES)
def test_labels_are_smoothed_with_every_rule_but_one_whose_weights_are_those_of_the_labels(rule: str) -> None:
    sentence = (
        "`loss.label_smoothing` must be 0 with `beta.kind: madpo`, whose weights are those of the labels as they "
        "stand, but is 0.1 instead; leave it out, or use another rule."
    )
    assert refusal(rule, ["sigmoid", "sft"], 0.1) == (sentence if rule == "madpo" else None)


def test_the_weight_of_a_flipped_label_is_another_one_so_that_smoothing_would_weigh_it_wrongly() -> None:
    rule = made("madpo")
    reward = torch.tensor([-3.0, 0.5, 2.0, 9.0])
    own, flipped = (
        rule(PromptFeatures(pairs=4, columns={"reward_margin": sign * reward}), torch.zeros(4)).weight
        for sign in (1.0, -1.0)
    )
    assert (own - flipped).abs().min() > 1e-3


def test_a_control_is_refused_with_what_the_rule_inside_is_refused_with() -> None:
    with pytest.raises(ConfigError, match=r"^`loss\.label_smoothing` must be 0 with `beta\.kind: matched`"):
        agreed(objective_of("sigmoid", label_smoothing=0.1), MatchedBeta(made("madpo")))


def test_means_beside_a_reference_leave_a_margin_of_the_policy_alone_no_place() -> None:
    rule = AllocatedTarget(margin="reference")
    rule.links = None
    assert agreed(objective_of(["sigmoid", "ipo"]), rule).margin == "reference_means"
    with pytest.raises(ConfigError, match=r"which moves a target, but is simpo instead\.$"):
        agreed(objective_of("simpo"), rule)
    rule.moves_target = False
    with pytest.raises(ConfigError, match=r"whose margin is one of means per token, but is aot instead\.$"):
        agreed(objective_of("aot"), rule)
