import re

import pytest
from bandit import PLAN, GaussianBandit, bandit_of

from betahead.compare.cells import NamedPrompts, refuse_seen_prompts, world_of
from betahead.compare.code import Code
from betahead.compare.plan import load_plan
from betahead.compare.resolved import Test, load_resolved, resolve
from betahead.errors import ConfigError, DataError


def resolved_of(text=PLAN):
    return resolve(load_plan(text), bandit_of)


def test_a_plan_takes_spaces_and_targets_from_its_worlds():
    resolved = resolved_of()
    assert list(resolved.spaces["shifted"]) == ["learning_rate", "beta", "knob"]
    assert resolved.spaces["shifted"]["knob"].high == 2.0
    assert resolved.targets == {"bandit/one": (0.02, 0.1)}
    assert resolved.tests == (Test(a="shifted", b="fixed"),)


def test_tuning_seeds_are_never_final_seeds():
    resolved = resolved_of()
    assert (len(resolved.tuning_seeds), len(resolved.final_seeds)) == (2, 8)
    assert not set(resolved.tuning_seeds) & set(resolved.final_seeds)


def test_the_largest_seed_of_a_plan_gives_seeds_that_every_generator_takes():
    # NumPy's old generator ends at 2^32, and 2^31 − 1 draws the answers of the reference.
    assert max(resolved_of(PLAN + "seed: 1999999\n").final_seeds) < 2**31 - 1


def test_the_hash_names_what_decides_and_no_line_break():
    first = resolved_of()
    assert first.hash == resolved_of(PLAN.replace("rope: 0.01", "rope:   0.01   # a remark")).hash
    assert first.hash != resolved_of(PLAN.replace("rope: 0.01", "rope: 0.02")).hash
    # What the world declares counts too: another space is another plan.
    wide = resolve(load_plan(PLAN.replace("high: 2.0}}}", "high: 3.0}}}")), bandit_of)
    assert first.hash != wide.hash


def test_the_hash_covers_the_targets_of_the_world():
    class Moved(GaussianBandit):
        def kl_targets(self):
            return (0.02, 0.2)

    assert resolve(load_plan(PLAN), Moved).hash != resolved_of().hash


def test_the_hash_covers_what_the_worlds_are():
    first = resolved_of()
    assert resolve(load_plan(PLAN), lambda cell: GaussianBandit(cell, gain=0.06)).hash != first.hash


def test_the_hash_is_that_of_the_question_and_the_code_stands_beside_it(monkeypatch):
    first = resolved_of()
    code = first.code
    monkeypatch.setattr("betahead.__version__", "9.9.9")
    assert resolved_of().hash == first.hash
    assert code != resolved_of().code == Code(version="9.9.9", digest=code.digest)


def test_a_tabular_cell_is_known_by_its_settings_training_oracle_and_methods():
    named = world_of("tabular/half_noise").fingerprint()
    assert set(named) == {"settings", "training", "oracle", "methods", "truth_seeds"}
    assert named != world_of("tabular/rare_noise").fingerprint()
    assert named["oracle"]["multiplier"] == [4.0, 4.0, 0.25, 0.25] and named["training"]["steps"] == 100
    (early,) = [one for one in named["methods"] if one["name"] == "fixed_early"]
    assert early["stopped"] and early["level"] == 0.01


MECHANISM = PLAN.replace("  - {a: shifted, b: fixed}", "  - {a: shifted, b: copy, claim: mechanism}").replace(
    "  fixed: {}", "  fixed: {}\n  copy: {}\n  'permuted:shifted': {}"
)


def test_a_mechanism_is_tested_against_rival_parent_and_placebo():
    assert resolved_of(MECHANISM).tests == tuple(Test(a="shifted", b=b) for b in ("copy", "fixed", "permuted:shifted"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            PLAN.replace("shifted:", "shiftet:"),
            "`methods.shiftet` is not a method of bandit/one; did you mean `shifted`?",
        ),
        (
            PLAN.replace("space: {knob", "space: {nob"),
            "`methods.shifted.space.nob` is not an axis of shifted; did you mean `knob`?",
        ),
        (
            PLAN.replace("fixed: {}", "fixed: {space: {knob: {low: 1, high: 2}}}"),
            "`methods.fixed.space.knob` is not an axis of fixed; it has none beyond the shared `axes`.",
        ),
        (
            PLAN.replace("fixed: {}", "fixed: {include: [{learning_rate: 0.1, beta: 5.0}]}"),
            "`methods.fixed.include.0.beta` must be inside its declared space [0.1, 2], but is 5 instead; widen the "
            "space for every configuration or leave this one out.",
        ),
        (
            PLAN.replace("fixed: {}", "fixed: {include: [{learning_rate: 0.1}]}"),
            "`methods.fixed.include.0.beta` is missing; give every axis of the space a value.",
        ),
        (
            PLAN.replace("fixed: {}", "fixed: {include: [{learning_rate: 0.1, beta: 1, knob: 1}]}"),
            "`methods.fixed.include.0.knob` is not an axis of the space; there are beta, learning_rate.",
        ),
        (
            PLAN.replace("b: fixed}", "b: fixt}"),
            "`comparisons` names 'fixt', which is not among the plan's `methods`; did you mean `fixed`?",
        ),
        (
            PLAN.replace("  fixed: {}", "  fixed: {}\n  oracle: {}").replace("a: shifted, b", "a: oracle, b"),
            "`comparisons` must not claim that oracle is better, because it reads the truth of its world; "
            "say `claim: bound`.",
        ),
        (
            PLAN.replace("  fixed: {}", "  fixed: {}\n  copy: {}").replace(
                "a: shifted, b: fixed}", "a: copy, b: fixed, claim: mechanism}"
            ),
            "`comparisons` claims a mechanism for copy, which has no placebo; name one with `placebo: METHOD`, or say "
            "`claim: better`.",
        ),
        *(
            (
                MECHANISM.replace("mechanism}", f"mechanism, {roles}}}").replace("b: copy", f"b: '{b}'"),
                "`comparisons` claims a mechanism for shifted, whose placebo must be a control of it "
                "(permuted:shifted, noise:shifted, flipped:shifted, matched:shifted) other than its opponent "
                f"{b} and its parent {parent}, but is {placebo} instead.",
            )
            for b, parent, placebo, roles in (
                ("copy", "fixed", "fixed", "placebo: fixed"),
                ("copy", "fixed", "copy", "placebo: copy"),
                ("copy", "fixed", "shifted", "placebo: shifted"),
                ("copy", "permuted:shifted", "permuted:shifted", "parent: 'permuted:shifted'"),
                ("permuted:shifted", "fixed", "permuted:shifted", "parent: fixed"),
            )
        ),
        (
            MECHANISM.replace("mechanism}", "mechanism, parent: shifted}"),
            "`comparisons` claims a mechanism for shifted, whose parent must be another method, but is "
            "shifted instead.",
        ),
        (
            MECHANISM.replace("\n  'permuted:shifted': {}", ""),
            "`comparisons (placebo of shifted)` names 'permuted:shifted', which is not among the plan's `methods`;",
        ),
        (
            PLAN + "headroom: {fixed: fixed, oracle: orakel, learned: [shifted]}\n",
            "`headroom` names 'orakel', which is not among the plan's `methods`; there are fixed, shifted.",
        ),
        (
            PLAN.replace("  fixed: {}", "  fixed: {}\n  oracle: {}\n  copy: {}")
            + "headroom: {fixed: fixed, oracle: copy, learned: [oracle]}\n",
            "`headroom.learned` must hold contenders, but oracle reads the truth of its world; leave it out.",
        ),
        (PLAN.replace("seeds: 8", "seeds: 5"), "`finals.seeds` must be at least 6 for 1 tests at alpha 0.05"),
    ],
)
def test_a_plan_that_its_worlds_cannot_serve_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        resolved_of(text)


def test_cells_that_declare_other_axes_are_refused():
    class Other(GaussianBandit):
        def methods(self):
            found = dict(super().methods())
            if self.name == "two":
                found["shifted"] = found["fixed"]
            return found

    with pytest.raises(
        ConfigError, match=r"`methods\.shifted` must have the same axes in every cell, but two declares"
    ):
        resolve(load_plan(PLAN.replace("[bandit/one]", "[one, two]")), Other)


@pytest.mark.parametrize("cell", ["tabular", "tablar/uniform", "tabular/"])
def test_a_cell_is_kind_and_name(cell):
    with pytest.raises(
        ConfigError, match=re.escape("`cells` must be KIND/NAME with KIND one of tabular, sequence") + f".*{cell!r}"
    ):
        world_of(cell)


def test_an_unknown_world_is_refused():
    with pytest.raises(ConfigError, match=r"which is no world: `world` must be one of .* is 'unform' instead"):
        world_of("tabular/unform")


class Texts(GaussianBandit):
    """A world with prompts in words, one of which is in test and elsewhere."""

    def __init__(self, cell, elsewhere):
        super().__init__(cell)
        self.texts = {"train": ["How?"], "eval": ["Who?"], "test": ["When?", "Why?"]}
        self.texts[elsewhere].append("Why?")

    def prompt_texts(self, split):
        return self.texts[split]


@pytest.mark.parametrize("elsewhere", ["train", "eval"])
def test_test_prompts_that_training_or_selection_sees_are_refused(elsewhere):
    with pytest.raises(DataError) as refused:
        resolve(load_plan(PLAN), lambda cell: Texts(cell, elsewhere))
    assert str(refused.value) == (
        f"The test prompts of bandit/one must be unseen, but 1 of them appear in {elsewhere} too, such as 'Why?'; "
        "remove them from one of the two."
    )
    refuse_seen_prompts(GaussianBandit(), "no texts")


def test_the_language_model_is_a_cell_whose_test_prompts_are_unseen():
    world = world_of("sequence/grammar")
    assert isinstance(world, NamedPrompts)
    refuse_seen_prompts(world, "sequence/grammar")
    assert len(world.prompt_texts("train")) > 10_000 and len(world.prompt_texts("test")) == 128
    with pytest.raises(ConfigError, match="`world` must be grammar, but is 'grammer' instead"):
        world_of("sequence/grammer")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (
            PLAN.replace("shifted:", "shiftet:"),
            "configuration, line 6: `methods.shiftet` is not a method of bandit/one;",
        ),
        (
            PLAN.replace("fixed: {}", "fixed: {include: [{learning_rate: 0.1, beta: 5.0}]}"),
            "configuration, line 5: `methods.fixed.include.0.beta` must be inside its declared space",
        ),
        (PLAN.replace("seeds: 8", "seeds: 5"), "configuration, line 11: `finals.seeds` must be at least 6"),
        (
            PLAN.replace("b: fixed}", "b: fixt}"),
            "configuration, line 13: `comparisons` names 'fixt', which is not among",
        ),
        (PLAN.replace("finals:", "finalz:"), "configuration, line 11: `finalz` is not a section"),
    ],
)
def test_a_mistake_is_found_at_its_line(text, start):
    with pytest.raises(ConfigError, match="^" + re.escape(start)):
        load_resolved(text, bandit_of)


def test_a_world_that_there_is_not_is_found_at_its_line():
    with pytest.raises(
        ConfigError, match=r"^configuration, line 3: `cells` names 'tabular/unform', which is no world: "
    ):
        load_resolved(PLAN.replace("bandit/one", "tabular/unform"), world_of)


def test_a_plan_without_mistakes_is_resolved_as_it_is():
    assert load_resolved(PLAN, bandit_of).hash == resolved_of().hash
