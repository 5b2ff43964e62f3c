"""Held-out learning as a way of learning of `LearnedBeta`."""

from typing import Any

import pytest
import tiny
import torch

from betahead.beta.controls import PermutedBeta
from betahead.beta.files import load_rule, save_rule
from betahead.beta.heldout import HeldOut, coefficient
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
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
