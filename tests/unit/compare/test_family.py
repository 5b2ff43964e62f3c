"""Which p-values are corrected together: those whose answer is open, and no others."""

import re

import numpy as np
import pytest
from bandit import PLAN, GaussianBandit, bandit_of

from betahead.compare.cells import world_of
from betahead.compare.forecast import forecast, sentences
from betahead.compare.judged import judge
from betahead.compare.markdown import markdown_of
from betahead.compare.plan import load_plan
from betahead.compare.record import evidence_of
from betahead.compare.resolved import Test, family_sentence, resolve
from betahead.compare.work import worked_alone
from betahead.errors import ConfigError
from betahead.stats.multiple import holm

TWO = PLAN.replace("[bandit/one]", "[bandit/one, bandit/two]")
WITH_COPY = TWO.replace("  fixed: {}", "  fixed: {}\n  copy: {}") + "  - {a: copy, b: fixed}\n"


class Copied(GaussianBandit):
    """A world that says that `copy` has the runs of `fixed`, in its first cell."""

    def runs_of(self, method):
        return "fixed" if method == "copy" and self.name == "bandit/one" else method


def copied(text=WITH_COPY):
    return resolve(load_plan(text), Copied)


def test_the_family_is_tests_times_cells_or_the_tests_of_a_cell():
    together, apart = (resolve(load_plan(text), bandit_of) for text in (TWO, TWO + "holm: per_cell\n"))
    assert (together.family, len(together.families)) == (2, 1)
    assert (apart.family, len(apart.families)) == (1, 2)
    assert family_sentence(together) == "the family that Holm corrects: 2 p-values, over tests × cells (1 × 2)"
    assert family_sentence(apart) == (
        "the family that Holm corrects: each cell by itself, of 1 to 1 p-values (1 tests)"
    )


def test_a_test_of_a_method_with_the_same_runs_leaves_the_family():
    resolved = copied()
    assert resolved.left_out == {(Test(a="copy", b="fixed"), "bandit/one")}
    assert resolved.family == 3
    assert family_sentence(resolved).endswith(
        "3 p-values, over tests × cells (2 × 2), without 1 of a method with the very same runs under another name"
    )
    assert [len(family) for family in copied(WITH_COPY + "holm: per_cell\n").families] == [1, 2]


def test_it_is_part_of_the_hash_what_leaves_the_family():
    assert copied().hash != resolve(load_plan(WITH_COPY), GaussianBandit).hash


def test_what_left_the_family_has_a_p_of_its_own_and_costs_the_others_nothing():
    finished = worked_alone(copied())
    decisions = judge(finished).decisions
    assert list(decisions) == [
        (test, cell) for cell in finished.resolved.plan.cells for test in finished.resolved.tests
    ]
    inside = [its for key, its in decisions.items() if key not in finished.resolved.left_out]
    np.testing.assert_allclose([its.p_holm for its in inside], holm(np.array([its.p for its in inside])))
    (outside,) = [its for key, its in decisions.items() if key in finished.resolved.left_out]
    assert outside.p == outside.p_holm == 1.0 and outside.verdict == "equivalent"


def test_the_evidence_and_its_table_say_what_the_family_is():
    evidence = evidence_of(worked_alone(copied()), "betahead compare copied.yaml")
    assert evidence.family.sizes == [3] and evidence.tests_per_family == 3
    assert [(one.cell, one.a, one.b) for one in evidence.family.left_out] == [("bandit/one", "copy", "fixed")]
    assert [one.in_family for one in evidence.tests if one.a == "copy"] == [False, True]
    text = markdown_of(evidence)
    assert evidence.family.sentence in text and text.count("| the same runs |") == 1


def test_a_plan_of_nothing_but_copies_is_refused():
    text = TWO.replace("[bandit/one, bandit/two]", "[bandit/one]").replace("  fixed: {}", "  fixed: {}\n  copy: {}")
    with pytest.raises(ConfigError, match=re.escape("`comparisons` must hold a test whose answer is open, but each")):
        copied(text.replace("{a: shifted, b: fixed}", "{a: copy, b: fixed}"))


DPO = ("loss:sigmoid", "loss:sigmoid_norm")


@pytest.mark.parametrize(
    ("cell", "same"),
    [
        # Where answers have no length, the sigmoid loss is fixed β with and without a norm by it.
        ("tabular/half_noise", {"renamed", *DPO}),
        # No label is turned round, and the weight oracle drops nothing.
        ("tabular/disagreement", {"renamed", "clean_labels", "weight_oracle", *DPO}),
        # The search for the oracle found one β for all.
        ("tabular/rare_noise", {"renamed", "oracle", "permuted:oracle", "noise:oracle", "flipped:oracle", *DPO}),
        ("sequence/grammar", {"renamed"}),
    ],
)
def test_a_world_knows_which_of_its_methods_are_fixed_beta(cell, same):
    world = world_of(cell)
    found = {name for name in world.methods() if world.runs_of(name) == "fixed"} - {"fixed", "matched:oracle"}
    assert found == same


def test_the_dry_run_says_of_the_very_same_runs_that_they_are_never_better():
    class Everywhere(GaussianBandit):
        def runs_of(self, method):
            return "fixed" if method == "copy" else method

    text = WITH_COPY + "sd: 0.001\n"
    shifted, copy = sentences(forecast(copied(text)))[-2:]
    assert "better in 100%" in shifted and "same runs" not in shifted
    assert copy.endswith("the very same runs under another name in bandit/one, so p is 1 and it is never better")
    assert "better in 100%" in copy  # in the other cell
    assert sentences(forecast(resolve(load_plan(text), Everywhere)))[-1] == (
        "copy against fixed, claim better, 1 test; the very same runs under another name in bandit/one, bandit/two, so "
        "p is 1 and it is never better"
    )
