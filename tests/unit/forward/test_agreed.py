"""Which losses and rules go together, and what they read between them."""

import re
from typing import Any

import pytest
import tiny
import torch

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import Need
from betahead.errors import ConfigError
from betahead.forward.agreed import agreed, reads_reference
from betahead.forward.model import PreferenceModel
from betahead.losses.objective import objective_of
from betahead.losses.table import LOSSES


class Shifting(FixedBeta):
    """A rule whose target is not 0."""

    kind = "shifting"
    moves_target = True


class OwnMargin(FixedBeta):
    """A rule whose margin has no reference."""

    kind = "own"
    margin_of = "policy"


class Reading(OwnMargin):
    """The same, deciding by the pair."""

    kind = "reading"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.PAIR})


OF_MARGINS = [kind for kind, row in LOSSES.items() if row.reads == "margin"]


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_a_rule_that_moves_a_target_goes_with_losses_that_have_a_margin(kind: str) -> None:
    objective = objective_of(kind, label_smoothing=0.1 if LOSSES[kind].smooths == "must" else 0.0)
    assert agreed(objective, FixedBeta(0.1)) == objective
    if kind == "sft":
        return
    if kind != "simpo" and kind in (*OF_MARGINS, "aot"):
        assert agreed(objective, Shifting(0.1)) == objective
    else:
        fitting = ", ".join(name for name in LOSSES if name != "simpo" and name in (*OF_MARGINS, "aot", "sft"))
        sentence = (
            f"`loss.kind` must be one of {fitting} with `beta.kind: shifting`, which moves a target, but is {kind}"
        )
        with pytest.raises(ConfigError, match=f"^{re.escape(sentence)} instead\\.$"):
            agreed(objective, Shifting(0.1))


def test_a_rule_with_the_policys_own_margin_refuses_a_comparison_with_the_reference() -> None:
    fitting = ", ".join([*OF_MARGINS, "sft"])
    own = "`beta.kind: own`, whose margin is the policy's own"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"kind": ["sigmoid", "aot"]}, f"`loss.kind` must be one of {fitting} with {own}, but is aot instead."),
        (
            {"kind": "hinge", "f_divergence_type": "forward_kl"},
            f"`loss.f_divergence_type` must be left out with {own}, but is forward_kl instead.",
        ),
    ]
    for settings, sentence in cases:
        with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
            agreed(objective_of(**settings), OwnMargin(0.1))


def test_the_loss_is_then_of_the_policys_mean_log_probabilities() -> None:
    policy = tiny.qwen2()
    batch = tiny.batch(5)
    own = PreferenceModel(policy, OwnMargin(0.4), objective=objective_of(["sigmoid", "sft"]))
    simpo = PreferenceModel(policy, FixedBeta(0.4), objective=objective_of(["simpo", "sft"], simpo_gamma=0.0))
    assert own.objective.unit == "nats per token"
    found, wanted = own(**batch), simpo(**batch)
    for name in ("losses", "margin", "chosen_rewards"):
        torch.testing.assert_close(found[name], wanted[name])


@pytest.mark.parametrize(
    ("kind", "rule", "reads"),
    [
        ("sigmoid", FixedBeta(0.1), True),
        ("simpo", FixedBeta(0.1), False),
        ("simpo", LearnedBeta(), False),
        ("simpo", LearnedBeta(ppl_from="reference"), True),
        ("sigmoid", OwnMargin(0.1), False),
        ("sigmoid", Reading(0.1), True),
    ],
)
def test_a_reference_is_read_when_loss_or_rule_reads_one(kind: str, rule: Any, reads: bool) -> None:
    assert reads_reference(objective_of(kind), rule) == reads
    if not isinstance(rule, LearnedBeta):
        assert PreferenceModel(tiny.qwen2(), rule, objective=objective_of(kind)).needs_reference == reads
