"""What is measured of tabular policies: exact, at every checkpoint, and without moving a number of the training."""

import numpy as np
import pytest
import torch

from betahead.worlds.measures import MEASURES
from betahead.worlds.named import named_world
from betahead.worlds.tabular import tabular_world
from betahead.worlds.tabular_held_out import held_out_pairs, said_of
from betahead.worlds.tabular_measures import TABULAR_MEASURES, TabularMeasures
from betahead.worlds.tabular_method import Planted
from betahead.worlds.tabular_method_table import TABULAR_METHODS, log_ppl_lean
from betahead.worlds.tabular_methods import tabular_method_world
from betahead.worlds.tabular_oracles import oracle_of
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import COMPARED, Runs
from betahead.worlds.tabular_training import Moment, policy_logps, train
from betahead.worlds.tabular_unrelated import retention, unrelated_prompts

SEEDS = (2000, 2001)
GIVEN = {"learning_rate": 0.05, "beta": 0.2, "beta_learning_rate": 0.02, "rho": 0.1, "response": 0.5, "drop": 0.2}


def outcome(method, world="half_noise", split="test", **changes):
    described = TABULAR_METHODS[method].described
    names = ("learning_rate", "beta", *(axis.name for axis in described.axes))
    return tabular_method_world(world).run(
        method, [{name: (GIVEN | changes)[name] for name in names}], SEEDS, split=split
    )


def trained(world, **runs):
    return train(world, sampled_pairs(world), Runs.with_beta([0.2], [0.05]), COMPARED, splits=["test"], **runs)


# As runs were before anything was measured beside gold and KL: reward and KL at the end, β of the first topic.
BEFORE = {
    "half_noise/fixed": [0.6355345727270282, 0.7278918026027444, -1.6094379124340983],
    "uniform/beta_dpo": [0.720794607366621, 1.1274485644743077],
    "few_pairs/noise:joint_plus": [0.36410362390346634, 0.5537273719373563, -0.5452518480166622],
    "familiar_noise/joint_minus": [0.5223628401321566, 0.39324634706760764, -0.16957303456656536],
    "separate_prompts/perspective_prompt": [0.16499523120609236, 0.2730210673516997, -0.9220192194287763],
    "reward_scales/permuted:perspective_linear": [1.0772335747207322, 0.7521599126592559, -0.9332275861439364],
    "half_noise/oracle": [0.3764011215704946, 0.4431459011042071, -0.2231435513142099],
}


@pytest.mark.parametrize("name", BEFORE)
def test_runs_have_the_numbers_that_they_had_before_anything_was_measured(name):
    world, method = name.split("/")
    found = outcome(method, world)
    numbers = [found.reward[0, 0, -1].mean(), found.kl[0, 1, -1].mean()]
    numbers += [] if found.log_beta is None else [found.log_beta[0, 0, 0]]
    assert numbers == pytest.approx(BEFORE[name], rel=1e-9)


@pytest.mark.parametrize("method", ["fixed", "beta_dpo", "noise:joint_plus", "permuted:perspective_quadratic"])
def test_measuring_moves_no_bit_of_a_training(method):
    settings = named_world("half_noise")
    world = tabular_world(settings, SEEDS)
    row, values = TABULAR_METHODS[method], {name: torch.tensor([value]).double() for name, value in GIVEN.items()}
    planted = Planted(world=world, oracle=oracle_of("half_noise"))
    measuring = TabularMeasures(
        world, scored=("test", slice(None)), dev=("eval", slice(None)), lean=None, tempered=False
    )
    both = [
        train(
            world,
            row.pairs(world, sampled_pairs(world)),
            row.runs(values, planted),
            COMPARED,
            row.learning(values, planted),
            measuring=given,
        )
        for given in (None, measuring)
    ]
    for name in ("shared", "table", "log_beta"):
        assert torch.equal(getattr(both[0], name), getattr(both[1], name))
    assert torch.equal(both[0].scores.reward, both[1].scores.reward)
    assert not both[0].measured and set(both[1].measured) == set(TABULAR_MEASURES)


def test_the_reference_says_nothing_of_pairs_and_has_not_moved():
    found = outcome("perspective_quadratic").measures
    start = {name: float(value[0, 0, 0]) for name, value in found.items()}
    assert set(found) == set(TABULAR_MEASURES) <= set(MEASURES)
    assert start.pop("held_out_nll") == start.pop("tempered_nll") == pytest.approx(np.log(2))
    assert start.pop("held_out_accuracy") == pytest.approx(0.5) and start.pop("held_out_brier") == pytest.approx(0.25)
    assert np.isnan(start.pop("held_out_slope"))
    assert all(abs(value) < 1e-12 for value in start.values())


def test_measures_of_pairs_are_means_over_all_pairs_and_both_labels():
    world = tabular_world(named_world("half_noise"), SEEDS)
    run = trained(world)
    logps = policy_logps(world, run.shared, run.table, "test")
    here = world.splits["test"]
    moved, beta = (logps - world.ref_logps[:, None, here])[1, 0], 0.2
    nll = right = chosen = down = 0.0
    ref, gold = world.ref_logps[1, here].exp(), world.gold[1, here]
    for prompt in range(400):
        total = 1 - float((ref[prompt] ** 2).sum())
        for a in range(6):
            for b in range(6):
                if a == b:
                    continue
                topic = world.topic[here][prompt]
                label = float(world.win_probability(gold[prompt, a], gold[prompt, b], topic))
                weight = 2 * float(ref[prompt, a] * ref[prompt, b]) / total / 400 * label
                margin = float(moved[prompt, a] - moved[prompt, b])
                nll += weight * float(np.logaddexp(0.0, -beta * margin))
                right += weight * (margin > 0)
                chosen += weight * float(moved[prompt, a])
                down += weight * bool(moved[prompt, a] < 0 and moved[prompt, b] < 0)
    found = {name: float(value[0, 1, -1]) for name, value in outcome("fixed").measures.items()}
    assert found["held_out_nll"] == pytest.approx(nll, rel=1e-9)
    assert found["held_out_accuracy"] == pytest.approx(right, rel=1e-9)
    assert found["chosen_shift"] == pytest.approx(chosen, rel=1e-9)
    assert found["both_down"] == pytest.approx(down, rel=1e-9)


def test_the_temperature_is_fitted_on_dev_and_read_on_test():
    found = outcome("fixed", "few_pairs")
    dev = outcome("fixed", "few_pairs", split="eval").measures
    fixed, tempered = found.measures, outcome("fixed_tempered", "few_pairs")
    for name in ("nll", "ece"):
        np.testing.assert_array_equal(tempered.measures[f"held_out_{name}"], fixed[f"tempered_{name}"])
    assert np.array_equal(tempered.reward, found.reward)
    # One pair a prompt makes too sure: the temperature is above 1 at the end, and found on prompts of dev.
    assert (dev["held_out_slope"][..., -1] < 1).all()
    assert (fixed["tempered_nll"][..., -1] < fixed["held_out_nll"][..., -1]).all()
    np.testing.assert_allclose(
        tempered.measures["held_out_slope"][..., 1:] * dev["held_out_slope"][..., 1:],
        fixed["held_out_slope"][..., 1:],
        rtol=1e-6,
    )


def test_a_prompt_that_was_not_trained_on_has_the_beta_of_its_topic_and_a_lean_of_its_own():
    world = tabular_world(named_world("familiar_noise"), SEEDS)
    lean = log_ppl_lean(1.0)(Planted(world=world, oracle=oracle_of("familiar_noise")))
    measures = TabularMeasures(
        world, scored=("test", slice(None)), dev=("eval", slice(None)), lean=lean, tempered=False
    )
    topic, train_topic = world.topic[world.splits["test"]], world.topic[world.splits["train"]]
    learned = torch.tensor([0.1, -0.2, 0.3, 0.0], dtype=torch.float64)
    of_train = (learned[train_topic] + lean[:, world.splits["train"]])[:, None]
    found = measures.log_beta(of_train, "test")
    torch.testing.assert_close(found[:, 0], learned[topic] + lean[:, world.splits["test"]])
    assert measures.log_beta(of_train, "train") is of_train


def test_unrelated_prompts_move_by_what_all_prompts_share_alone():
    world = tabular_world(named_world("uniform"), SEEDS)
    prompts, run = unrelated_prompts(world), trained(world)
    found = retention(prompts, run.shared)
    for number in range(2):
        logits = prompts.features[number].numpy() @ run.shared[number, 0].numpy()
        ref = prompts.ref_logps[number].numpy()
        logps = ref + logits - np.log(np.exp(ref + logits).sum(-1, keepdims=True))
        assert found["unrelated_kl"][number, 0] == pytest.approx((np.exp(logps) * (logps - ref)).sum(-1).mean())
        assert found["unrelated_nll_rise"][number, 0] == pytest.approx((np.exp(ref) * (ref - logps)).sum(-1).mean())
    only_topics = run.shared.clone()
    only_topics[..., : world.settings.features] = 0.0
    assert np.abs(retention(prompts, only_topics)["unrelated_kl"]).max() < 1e-12
    # Less than where pairs came from, and more than nothing.
    assert (found["unrelated_kl"] > 0.01).all()
    assert (found["unrelated_kl"] < run.on("test").kl[:, :, -1].numpy()).all()


def test_unrelated_prompts_stay_as_they_were_where_topics_share_nothing():
    for world in ("separate_topics", "separate_prompts"):
        found = outcome("fixed", world).measures
        assert np.abs(found["unrelated_kl"]).max() < 1e-12 and np.abs(found["unrelated_nll_rise"]).max() < 1e-12
        assert (found["held_out_nll"][..., -1] < np.log(2)).all()


def test_unrelated_prompts_are_a_seeds_own_whatever_runs_beside_it():
    together, alone = (unrelated_prompts(tabular_world(named_world("uniform"), seeds)) for seeds in (SEEDS, SEEDS[1:]))
    assert torch.equal(together.features[1], alone.features[0])
    assert torch.equal(together.ref_logps[1], alone.ref_logps[0])


def test_a_run_that_is_not_finite_has_no_measure_and_leaves_the_others_theirs():
    world = tabular_world(named_world("uniform"), SEEDS)
    run = trained(world)
    broken = run.shared.clone()
    broken[0] = torch.nan
    moment = Moment(broken, run.table, run.log_beta)
    found = TabularMeasures(world, scored=("test", slice(None)), dev=("eval", slice(None)), lean=None, tempered=False)(
        moment
    )
    for value in found.values():
        assert np.isnan(value[0]).all() and np.isfinite(value[1]).all()
    pairs, level = held_out_pairs(world, "test", slice(None)), torch.zeros(2, 1, 400, dtype=torch.float64)
    assert said_of(pairs, world, policy_logps(world, broken, run.table, "test"), level).finite.tolist() == [
        [False],
        [True],
    ]


def test_topics_of_the_scored_prompts_come_with_their_planted_noise():
    for world, prompts in (("half_noise", 400), ("separate_prompts", 100)):
        topics = outcome("fixed", world).topics
        assert topics.of_prompt.shape == (prompts,) and set(topics.of_prompt) == {0, 1, 2, 3}
        assert topics.label_noise == tuple(topic.label_noise for topic in named_world(world).topics)
