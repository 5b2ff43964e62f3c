"""Held-out learning as a way of learning of `LearnedBeta`."""

from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch

from betahead.beta.controls import PermutedBeta
from betahead.beta.files import load_rule, save_rule
from betahead.beta.heldout import HeldOut, beta_slopes, coefficient
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.losses.links import sigmoid
from betahead.losses.preference import preference_loss

PAIRS = 5


def margins() -> torch.Tensor:
    return torch.linspace(-4.0, 6.0, PAIRS)


@pytest.mark.parametrize("net", tiny.NETS)
def test_the_policy_gets_the_push_of_its_beta_and_the_head_exactly_nothing(net: Any) -> None:
    rule = tiny.built(net=net, learning="heldout", initial_beta=0.3, scatter=0.3)
    margin = margins().requires_grad_()
    features = tiny.features(PAIRS)
    shaping = rule(features, margin)
    assert shaping.beta.std() > 0
    preference_loss(margin, shaping).sum().backward()
    torch.testing.assert_close(margin.grad, coefficient(shaping.beta, margin, 0.3).detach(), rtol=1e-5, atol=1e-7)
    assert all(p.grad is not None and not p.grad.any() for p in rule.parameters())
    assert not shaping.penalty.any()


def test_a_control_gives_the_other_beta_its_weight() -> None:
    rule = tiny.built(learning="heldout", initial_beta=0.3)
    shaping = rule(tiny.features(PAIRS), margins())
    other = rule.reshaped(shaping, 2.0 * shaping.beta)
    torch.testing.assert_close(other.weight, shaping.weight / 2.0)


def test_the_bounds_are_absolute_ones() -> None:
    assert LearnedBeta(learning="heldout").bounds == (1e-3, 30.0)
    assert LearnedBeta(learning="heldout", bounds=(0.05, 0.2)).bounds == (0.05, 0.2)


def test_what_is_asked_of_the_trainer_has_defaults_and_survives_the_disk(tmp_path: Any) -> None:
    assert LearnedBeta(learning="heldout").held_out == HeldOut(share=0.1, pairs=8, every=1)
    asked = {"kind": "heldout", "held_out_share": 0.2, "held_out_pairs": 3, "held_out_every": 4}
    rule = tiny.built(learning=asked, form="direct", scatter=0.2)
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    again = load_rule(tmp_path)
    assert again.settings == rule.settings
    assert again.held_out == HeldOut(share=0.2, pairs=3, every=4)


def test_a_control_asks_for_what_the_rule_inside_asks_for() -> None:
    assert PermutedBeta(LearnedBeta(learning="heldout")).held_out == HeldOut()
    assert PermutedBeta(LearnedBeta()).held_out is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"learning": {"kind": "heldout", "held_out_share": 0.5}},
            "`beta.learning.held_out_share` must be in (0, 0.5), but is 0.5 instead.",
        ),
        (
            {"learning": {"kind": "heldout", "held_out_pairs": 0}},
            "`beta.learning.held_out_pairs` must be a whole number of at least 1, but is 0 instead.",
        ),
        (
            {"learning": {"kind": "heldout", "held_out_every": True}},
            "`beta.learning.held_out_every` must be a whole number of at least 1, but is True instead.",
        ),
        (
            {"learning": {"kind": "joint", "held_out_every": 2}},
            "`beta.learning.held_out_every` applies only with learning.kind: heldout, but is 2 here; remove it.",
        ),
        (
            {"learning": "heldout", "couple": True},
            "`beta.couple` must be false with learning.kind: heldout, whose row has no penalty that would keep the "
            "policy from lowering it through the features, but is true instead; remove it.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        LearnedBeta(**settings)
    assert str(refused.value) == sentence


def test_another_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`loss\.kind` must be sigmoid with this beta rule, but is hinge instead"):
        LearnedBeta(learning="heldout").check_link("hinge")


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_its_row_falls_in_beta_by_the_entropy_of_a_pair_whatever_the_label_so_that_a_coupled_policy_would_never_rest(
    label_smoothing: float,
) -> None:
    level = 0.3
    margin = torch.linspace(-20.0, 20.0, 81, dtype=torch.float64)
    beta = torch.full_like(margin, 0.7).requires_grad_()
    row = level / beta * sigmoid(beta * margin, beta, label_smoothing=label_smoothing)
    (slope,) = torch.autograd.grad(row.sum(), beta)
    p = torch.sigmoid(beta * margin).detach()
    entropy = torch.distributions.Bernoulli(p).entropy()
    torch.testing.assert_close(slope, -level / beta.detach() ** 2 * entropy, rtol=1e-9, atol=1e-12)
    assert bool((slope < 0).all())
    # A pair and its swap have the same slope: what the policy would follow knows no label.
    torch.testing.assert_close(slope, slope.flip(0), rtol=1e-9, atol=1e-15)


def test_a_policy_that_felt_its_row_through_the_features_would_raise_beta_on_every_prompt_under_either_label() -> None:
    rule = tiny.built(learning="heldout", initial_beta=0.3, scatter=0.3)
    given = tiny.features(PAIRS)
    for sign in (1.0, -1.0):
        hidden = given.last_hidden.clone().requires_grad_()
        beta = rule.explain(given).beta.detach()
        for _ in range(30):
            now = rule.head(replace(given, last_hidden=hidden), rule.mode.log_shift()).beta
            row = 0.3 / now * sigmoid(now * sign * margins(), now)
            (slope,) = torch.autograd.grad(row.sum(), hidden)
            hidden = (hidden - 0.3 * slope).detach().requires_grad_()
        assert bool((now > beta).all())


def test_the_derivative_that_a_coupled_policy_would_need_is_a_learning_rate_smaller_than_what_it_is_added_to() -> None:
    beta, margin = torch.linspace(0.1, 2.0, PAIRS), margins()
    along = torch.linspace(-0.2, 0.1, PAIRS)
    push = coefficient(beta, margin, 0.3) / PAIRS
    whole = beta_slopes(beta, margin, along, level=0.3, pairs=PAIRS)
    # Beside the push it is at most |h| times what the step moves the margin by, and so vanishes with the step.
    assert bool(((whole / push).abs() <= (margin * along).abs()).all())
    torch.testing.assert_close(beta_slopes(beta, margin, 1e-3 * along, level=0.3, pairs=PAIRS), 1e-3 * whole)
