"""The methods of tabular worlds: what each gives a comparison, and what must hold where the truth is known."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from betahead.errors import ConfigError
from betahead.worlds.named import NAMED_WORLDS, named_world
from betahead.worlds.tabular import exact_scores, kl_quartiles, mean_scores, tabular_world
from betahead.worlds.tabular_frontier import reward_at_kl
from betahead.worlds.tabular_method import SHARED_AXES
from betahead.worlds.tabular_method_table import TABULAR_METHODS, answer_nll, log_ppl_lean
from betahead.worlds.tabular_methods import tabular_method_world
from betahead.worlds.tabular_oracles import SEARCH, main, oracle_of, recorded, searched

SEEDS = (2000, 2001)
METHODS = tabular_method_world("uniform").methods()


def configurations(method, number=2):
    axes = (*SHARED_AXES, *METHODS[method].axes)
    shares = np.linspace(0.3, 0.7, number)
    return [{a.name: float(a.low ** (1 - s) * a.high**s if a.low else a.high * s) for a in axes} for s in shares]


@pytest.mark.parametrize("method", TABULAR_METHODS)
def test_every_method_scores_every_prompt_from_the_reference_on(method):
    world = tabular_method_world("half_noise")
    out = world.run(method, configurations(method, 1), SEEDS, split="eval")
    assert out.reward.shape == out.kl.shape == out.win_rate.shape == (1, 2, 6, 200)
    assert out.checkpoints == (0.0, 0.1, 0.25, 0.5, 0.75, 1.0) and not out.same_prompts and out.seconds > 0
    assert out.finite.all() and np.abs(out.kl[:, :, 0]).max() < 1e-12
    assert (out.kl[:, :, -1].mean(-1) > 1e-3).all()
    assert (out.log_beta is None) == (method == "beta_dpo")
    assert out.log_beta is None or out.log_beta.shape == (1, 2, 4)


@pytest.mark.parametrize("method", ["beta_dpo", "perspective_linear", "noise:joint_plus", "permuted:oracle"])
def test_a_run_is_the_same_whatever_runs_beside_it(method):
    world = tabular_method_world("few_pairs")
    both = configurations(method)
    together = world.run(method, both, SEEDS, split="test")
    for number, configuration in enumerate(both):
        for at, seed in enumerate(SEEDS):
            alone = world.run(method, [configuration], [seed], split="test")
            np.testing.assert_allclose(alone.reward[0, 0], together.reward[number, at], rtol=0, atol=1e-11)


def test_a_renamed_copy_is_fixed_and_a_planted_effect_is_what_it_says():
    world = tabular_method_world("uniform", planted=[0.01])
    fixed, renamed, planted = (
        world.run(name, configurations("fixed"), SEEDS, split="test") for name in ("fixed", "renamed", "planted:0.01")
    )
    assert np.array_equal(fixed.reward, renamed.reward) and np.array_equal(fixed.kl, renamed.kl)
    np.testing.assert_allclose(planted.reward - fixed.reward, 0.01, atol=1e-12)
    np.testing.assert_allclose(planted.win_rate - fixed.win_rate, 0.01, atol=1e-12)
    assert np.array_equal(planted.kl, fixed.kl)
    assert world.methods()["planted:0.01"].needs_truth and "planted:0.01" not in METHODS


def test_contenders_know_no_truth_and_every_placebo_is_a_method():
    truthful = {name for name, method in METHODS.items() if method.needs_truth}
    assert truthful == {
        *("oracle", "weight_oracle", "clean_labels"),
        *(f"{kind}:oracle" for kind in ("permuted", "noise", "flipped", "matched")),
    }
    for method in METHODS.values():
        assert method.placebo is None or METHODS[method.placebo].axes == method.axes
        assert method.parent is None or method.parent in METHODS


def test_where_prompts_share_nothing_selection_and_final_number_use_different_train_prompts():
    world = tabular_method_world("separate_prompts")
    halves = {split: world.run("fixed", configurations("fixed"), SEEDS, split=split) for split in ("eval", "test")}
    assert halves["eval"].reward.shape == halves["test"].reward.shape == (2, 2, 6, 100)
    assert not np.isclose(halves["eval"].reward, halves["test"].reward).all(axis=(0, 1, 2)).any()
    assert (halves["test"].kl[:, :, -1].mean(-1) > 1e-3).all()


@pytest.mark.parametrize("name", ["half_noise", "separate_prompts"])
def test_early_stopping_reads_the_prompts_of_selection_whatever_is_scored(name):
    world = tabular_method_world(name)
    given = configurations("fixed_early")
    dev, test = (world.run("fixed_early", given, SEEDS, split=split) for split in ("eval", "test"))
    np.testing.assert_allclose(dev.dev, np.stack([dev.reward.mean(-1), dev.kl.mean(-1)], axis=-1), atol=1e-12)
    np.testing.assert_allclose(test.dev, dev.dev, atol=1e-12)
    assert not np.isclose(test.reward.mean(-1)[..., -1], test.dev[..., -1, 0]).any()
    assert world.run("fixed", given, SEEDS, split="test").dev is None


def test_kl_targets_come_from_the_truth_of_the_world():
    world = tabular_method_world("reward_scales")
    truth = tabular_world(named_world("reward_scales"), range(900, 908))
    assert world.kl_targets() == tuple(kl_quartiles(truth, "test").tolist())
    assert 0 < world.kl_targets()[0] < world.kl_targets()[1] < world.kl_targets()[2]


def test_log_ppl_is_the_references_own_surprise_and_keeps_the_level_of_train_prompts():
    world = tabular_world(named_world("familiar_noise"), SEEDS)
    nll, train = answer_nll(world), world.splits["train"]
    torch.testing.assert_close(nll, -(world.ref_logps.exp() * world.ref_logps).sum(-1))
    # The surer the reference is of a topic's answers, the less they surprise it.
    means = [float(nll[:, world.topic == topic].mean()) for topic in range(4)]
    assert means == sorted(means, reverse=True)
    planted = type("Planted", (), {"world": world})()
    for power in (1.0, -1.0):
        lean = log_ppl_lean(power)(planted)
        assert lean[:, train].mean(-1).abs().max() < 1e-12
        level = nll[:, train].log().mean(-1, keepdim=True).exp()
        torch.testing.assert_close(lean, power * (nll / level).log())


def gains(world, method, configs, seeds):
    """Gold above the reference at the end of training, per run."""
    out = world.run(method, configs, seeds, split="test")
    return (out.reward[:, :, -1] - out.reward[:, :, 0]).mean(-1)


def test_shuffled_labels_raise_no_gold():
    seeds = range(2000, 2010)
    configs = [{"learning_rate": 0.03, "beta": 0.1}]
    world = tabular_method_world("uniform")
    coins, labels = (gains(world, name, configs, seeds)[0] for name in ("shuffled_labels", "fixed"))
    error = coins.std(ddof=1) / 10**0.5
    assert abs(coins.mean()) < 3 * error and labels.mean() > 5 * error


def test_labels_without_flips_are_worth_more_where_there_were_flips():
    configs = [{"learning_rate": 0.03, "beta": 0.1}]
    for name, differ in (("half_noise", True), ("disagreement", False)):
        world = tabular_method_world(name)
        clean, noisy = (gains(world, method, configs, SEEDS) for method in ("clean_labels", "fixed"))
        assert (clean > noisy + 0.05).all() if differ else np.array_equal(clean, noisy)


def test_a_constant_answer_loses_to_the_closed_form_at_its_own_kl():
    world = tabular_world(named_world("uniform"), SEEDS)
    here = world.splits["test"]
    ref, gold = world.ref_logps[:, None, here], world.gold[:, None, here]
    strength = torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0], dtype=torch.float64)[:, None, None]
    first = torch.zeros(6, dtype=torch.float64)
    first[0] = 1.0
    constant = mean_scores(exact_scores(world, torch.log_softmax(ref + strength * first, -1), "test"))
    best = mean_scores(exact_scores(world, torch.log_softmax(ref + strength * gold, -1), "test"))
    start = mean_scores(exact_scores(world, ref, "test")).reward
    for seed in range(2):
        path = torch.cat([start[seed], best.reward[seed]]), torch.cat([torch.zeros(1).double(), best.kl[seed]])
        at = reward_at_kl(*path, constant.kl[seed, :2])
        assert (at > constant.reward[seed, :2] + 0.1).all()


# --- oracles


def frontier_gain(name, method, seeds, configs):
    """Mean gain of a method over fixed at each KL, tuned on dev with other seeds, and its error over seeds."""
    world = tabular_method_world(name)
    targets = torch.tensor(world.kl_targets(), dtype=torch.float64)
    finals = {}
    for who in ("fixed", method):
        dev = at_targets(world.run(who, configs, range(300, 304), split="eval"), targets)
        chosen = np.where(np.isfinite(dev).all(1), dev.mean(1), -np.inf).argmax(0)
        test = at_targets(world.run(who, configs, seeds, split="test"), targets)
        finals[who] = np.stack([test[config, :, target] for target, config in enumerate(chosen)], axis=-1)
    gain = (finals[method] - finals["fixed"]).mean(-1)
    return np.nanmean(gain), np.nanstd(gain, ddof=1) / len(gain) ** 0.5


def at_targets(out, targets):
    reward, kl = (torch.from_numpy(values.mean(-1)) for values in (out.reward, out.kl))
    return reward_at_kl(reward, kl, targets).numpy()


GRID = [{"learning_rate": rate, "beta": beta} for rate in (0.01, 0.04, 0.16) for beta in (0.03, 0.1, 0.3, 1.0)]


@pytest.mark.parametrize(("name", "method"), [("half_noise", "oracle"), ("adversarial_topic", "weight_oracle")])
def test_the_oracle_wins_on_fresh_seeds_where_there_is_headroom(name, method):
    gain, error = frontier_gain(name, method, range(2000, 2008), GRID)
    assert gain > 2 * error and gain > 0.01


def test_where_all_topics_are_alike_there_is_nothing_to_win():
    found = recorded()["uniform"]
    for (gain, _), fixed in zip(found["oracle_gain"], found["fixed"], strict=True):
        assert abs(gain) < 0.005 * fixed
    assert found["dropped"] == [False] * 4


def test_the_record_holds_every_world_as_it_is_searched_now():
    assert set(recorded()) == set(NAMED_WORLDS)
    for name, found in recorded().items():
        assert found["settings"] == json.loads(json.dumps(asdict(NAMED_WORLDS[name])))
        assert found["search"] == json.loads(json.dumps(asdict(SEARCH) | {"push": ("beta", "even")}))
        oracle = oracle_of(name)
        assert np.prod(oracle.multiplier) == pytest.approx(1.0, abs=1e-3)
        assert not all(oracle.dropped) and len(oracle.dropped) == 4


def test_a_short_search_finds_the_recorded_oracle_again():
    short = replace(
        SEARCH,
        betas=(0.1, 0.3),
        learning_rates=(0.01, 0.04),
        budget=3,
        search_seeds=SEARCH.search_seeds[:6],
        fresh_seeds=tuple(range(2000, 2002)),
    )
    found, kept = searched("half_noise", short), recorded()["half_noise"]
    assert found["push"] == kept["push"] and found["dropped"] == kept["dropped"]
    signs = [np.sign(np.log(of["multiplier"])).tolist() for of in (found, kept)]
    assert signs[0] == signs[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda w: w.run("dpo", [], [0], split="eval"),
            "`method` must be one of fixed, fixed_early, fixed_tempered, beta_dpo, ",
        ),
        (
            lambda w: w.run("fixed", [{"beta": 0.1}], [0], split="eval"),
            "`configurations` of fixed must each hold learning_rate, beta, but hold beta instead.",
        ),
        (
            lambda w: w.run("fixed", [{"beta": 0.0, "learning_rate": 0.1}], [0], split="eval"),
            "`beta` of fixed must be above 0, but is 0.0 instead.",
        ),
        (lambda _: tabular_method_world("mars"), "`world` must be one of adversarial_topic, disagreement, "),
    ],
)
def test_what_cannot_be_run_is_refused(call, message):
    with pytest.raises(ConfigError) as caught:
        call(tabular_method_world("uniform"))
    assert str(caught.value).startswith(message)


def test_the_headroom_is_shown_in_percent_of_what_fixed_beta_wins(capsys):
    main(["table"])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 + len(NAMED_WORLDS)
    (row,) = [line for line in shown if line.startswith("| half_noise |")]
    found = recorded()["half_noise"]
    gain, error = found["oracle_gain"][0]
    assert f"| {100 * gain / found['fixed'][0]:+.1f} ± {100 * error / found['fixed'][0]:.1f} · " in row
    assert "| 3, 4 |" in row
    with pytest.raises(ConfigError, match=r"^`world` must be one of "):
        main(["mars"])
