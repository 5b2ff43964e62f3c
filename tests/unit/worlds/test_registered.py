"""Which controls a rule of the package has: those that leave it another rule, as its own shapings say."""

import pytest
import torch

from betahead.beta.learned import LearnedBeta
from betahead.beta.table import METHODS
from betahead.types import PAIR_COLUMNS, AnswerSums, PairLogps, PairReading, PromptFeatures, ReferenceScores
from betahead.worlds.registered import CONTROL_RULES, controls_of, level_of, unknown_method, why_not

PAIRS = 24
RULES = [kind for kind in METHODS if kind is not LearnedBeta]


def shapings(kind):
    """Those of two steps on other pairs."""
    drawn = torch.Generator().manual_seed(3)
    rule, found = kind(), []
    for _ in range(2):
        chosen, rejected, first, second, collision = (-torch.rand(5, PAIRS, generator=drawn) * 4).unbind()
        ones = torch.ones(PAIRS, dtype=torch.long)
        sums = AnswerSums(
            collision=collision.repeat(2),
            looser=torch.randn(2 * PAIRS, generator=drawn),
            tighter=torch.randn(2 * PAIRS, generator=drawn),
        )
        policy = PairLogps(chosen=chosen, rejected=rejected, chosen_tokens=ones, rejected_tokens=ones, sums=sums)
        entropy = torch.rand(PAIRS, generator=drawn)
        pair = PairReading.of(policy, ReferenceScores(chosen_logps=first, rejected_logps=second, entropy=entropy))
        columns = {name: 0.1 + torch.rand(PAIRS, generator=drawn) for name in PAIR_COLUMNS}
        found.append(rule(PromptFeatures(pairs=PAIRS, pair=pair, columns=columns), chosen - rejected - first + second))
    return found


@pytest.mark.parametrize("kind", RULES, ids=[kind.kind for kind in RULES])
def test_a_rule_has_the_controls_that_change_something(kind):
    one, other = shapings(kind)
    varies = float(torch.cat([one.beta, other.beta]).log().std()) > 1e-6
    differs = any(float(value.std()) > 1e-6 for value in (one.beta, one.target, one.weight))
    assert ("permuted" in controls_of(kind.kind)) == differs
    assert ("flipped" in controls_of(kind.kind)) == varies
    assert set(controls_of(kind.kind)) <= set(CONTROL_RULES)


@pytest.mark.parametrize("kind", RULES, ids=[kind.kind for kind in RULES])
def test_the_level_of_a_rule_is_the_argument_that_is_its_beta(kind):
    assert kind(**{level_of(kind): 0.123}).settings[level_of(kind)] == 0.123


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("loss:sigmoid", "that loss with one β is called fixed."),
        (
            "loss:simpo",
            "that loss compares with no reference, and the sequence world measures what does; "
            "compare it in a tabular world.",
        ),
        (
            "rule:amapo",
            "that rule's margin is none to the reference, as what the sequence world measures is; "
            "compare it in a tabular world.",
        ),
        (
            "rule:given",
            "that rule reads the column given_beta, which the sequence world lacks; train it on data that have one.",
        ),
        ("rule:nothing", None),
        ("loss:nothing", None),
        ("permuted:nothing", None),
        ("dpo", None),
    ],
)
def test_the_reason_is_said_where_the_name_says_what_it_would_be(name, reason):
    assert why_not(name, ["fixed", "loss:ipo"], "the sequence world") == reason


def test_a_method_is_refused_with_the_names_that_there_are():
    assert unknown_method("dpo", ["a", "b"], None) == "`method` must be one of a, b, but is 'dpo' instead."
    assert unknown_method("dpo", ["a"], "so.") == "`method` must be one of a, but is 'dpo' instead; so."
