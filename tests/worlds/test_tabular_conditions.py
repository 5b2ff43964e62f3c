"""Worlds under other conditions: what each changes, what it leaves, and methods with an early stop."""

import re
from dataclasses import asdict

import numpy as np
import pytest

from betahead.compare.score import scores_of
from betahead.errors import ConfigError
from betahead.worlds.named import named_world
from betahead.worlds.tabular_conditions import Conditions, named_conditions
from betahead.worlds.tabular_methods import tabular_method_world
from betahead.worlds.tabular_runs import COMPARED

SEEDS = (2000, 2001)
GIVEN = {"learning_rate": 0.05, "beta": 0.1}


def run(name, method="fixed", split="test", **changes):
    return tabular_method_world(name).run(method, [GIVEN | changes], SEEDS, split=split)


def test_a_name_without_conditions_is_the_world_as_it_is():
    assert named_conditions("half_noise") == ("half_noise", Conditions())
    plain = Conditions()
    assert plain.settings(named_world("half_noise")) == named_world("half_noise") and plain.training == COMPARED


def test_conditions_are_read_from_the_name_and_are_part_of_the_fingerprint():
    world, conditions = named_conditions("half_noise@steps=8,optimizer=sgd,data=0.25,scale=4")
    assert (world, conditions) == ("half_noise", Conditions(steps=8.0, data=0.25, scale=4.0, optimizer="sgd"))
    assert (conditions.training.steps, conditions.training.optimizer) == (800, "gd")
    settings = conditions.settings(named_world(world))
    assert settings.train_prompts == 50 and {topic.temperature for topic in settings.topics} == {0.25}
    named = tabular_method_world("half_noise@steps=8,data=0.25")
    assert named.name == "half_noise@steps=8,data=0.25"
    assert named.fingerprint()["training"]["steps"] == 800
    assert named.fingerprint()["settings"] == asdict(Conditions(data=0.25).settings(named_world("half_noise")))
    assert named.fingerprint()["oracle"] == tabular_method_world("half_noise").fingerprint()["oracle"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "half_noise@step=8",
            "`world` must name each of its conditions once, of steps, data, scale, optimizer, but is "
            "'half_noise@step=8' instead.",
        ),
        ("uniform@steps=2,steps=4", "`world` must name each of its conditions once, of steps, data, scale, optimizer,"),
        (
            "uniform@",
            "`world` must name each of its conditions once, of steps, data, scale, optimizer, but is",
        ),
        ("uniform@steps=1000", "`steps` of 'uniform@steps=1000' must be in [1/16, 16], but is '1000' instead."),
        ("uniform@data=nan", "`data` of 'uniform@data=nan' must be in [1/16, 16], but is 'nan' instead."),
        ("uniform@scale=much", "`scale` of 'uniform@scale=much' must be in [1/16, 16], but is 'much' instead."),
        (
            "uniform@optimizer=lion",
            "`optimizer` of 'uniform@optimizer=lion' must be adamw or sgd, but is 'lion'",
        ),
        ("unform@steps=2", "`world` must be one of adversarial_topic,"),
    ],
)
def test_a_condition_that_makes_no_world_is_one_sentence(name, sentence):
    with pytest.raises(ConfigError, match="^" + re.escape(sentence)):
        tabular_method_world(name)


def test_a_run_of_half_the_steps_is_the_first_half_of_a_run():
    half, whole = run("half_noise@steps=0.5"), run("half_noise")
    np.testing.assert_allclose(half.reward[:, :, -1], whole.reward[:, :, 3], atol=1e-12)
    assert half.checkpoints == whole.checkpoints == (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def test_the_scale_of_rewards_changes_labels_and_not_gold():
    plain, sharp, blunt = (run(name) for name in ("uniform", "uniform@scale=4", "uniform@scale=0.25"))
    for other in (sharp, blunt):
        np.testing.assert_array_equal(other.reward[:, :, 0], plain.reward[:, :, 0])
    gain = [out.reward[..., -1, :].mean() - out.reward[..., 0, :].mean() for out in (blunt, plain, sharp)]
    assert gain == sorted(gain)
    targets = [tabular_method_world(name).kl_targets() for name in ("uniform", "uniform@scale=4")]
    assert targets[0] == targets[1]


def test_more_data_is_worth_more_gold():
    less, more = (run(f"half_noise@data={share}") for share in ("0.25", "4"))
    assert less.reward[..., -1, :].mean() < more.reward[..., -1, :].mean()


def test_plain_descent_goes_about_as_far_as_adamw():
    kl = [run(name, beta=0.3).kl[..., -1, :].mean() for name in ("half_noise", "half_noise@optimizer=sgd")]
    assert 0.2 < kl[1] / kl[0] < 5.0
    # β is learned by the same optimizer, and is learned.
    out = run("half_noise@optimizer=sgd", "joint_plus", beta=0.3, beta_learning_rate=0.1)
    fixed = run("half_noise@optimizer=sgd", "joint_plus", beta=0.3, beta_learning_rate=1e-9)
    assert np.abs(out.log_beta - fixed.log_beta).max() > 0.05


@pytest.mark.parametrize("method", ["fixed", "joint_plus", "budget"])
def test_an_early_stop_changes_where_a_run_ends_and_nothing_of_its_path(method):
    own = {"beta_learning_rate": 0.03, "target_kl": 0.5}
    given = {axis.name: own[axis.name] for axis in tabular_method_world("half_noise").methods()[method].axes}
    given |= {"learning_rate": 0.3, "beta": 0.03}
    plain, early = (run("half_noise", name, **given) for name in (method, f"early:{method}"))
    np.testing.assert_array_equal(plain.reward, early.reward)
    assert plain.dev is None and early.dev is not None
    ends = [scores_of(out, (0.1,), (1.0,)).values["gold_minus_kl_0"] for out in (plain, early)]
    along = (early.reward - early.kl).mean(-1)[0]
    best = (early.dev[..., 0] - early.dev[..., 1])[0].argmax(-1)
    np.testing.assert_allclose(ends[1][:, 0], along[np.arange(len(SEEDS)), best])
    np.testing.assert_allclose(ends[0][:, 0], along[:, -1])
    assert ends[1].mean() > ends[0].mean()


def test_what_is_stopped_has_the_stopped_parent():
    methods = tabular_method_world("uniform").methods()
    assert methods["early:joint_plus"].parent == "early:fixed" and methods["early:fixed"].parent is None
    assert methods["early:joint_plus"].axes == methods["joint_plus"].axes
    assert methods["early:joint_plus"].placebo is None
