"""The sequence world for comparisons, in small: one reference for all runs, real training, graded samples."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from betahead.beta.control_levels import NoiseBeta
from betahead.compare.cells import world_of
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.errors import ConfigError
from betahead.runs.sequence import sequence_method_world
from betahead.runs.sequence_lessons import Lessons, clean_pair
from betahead.runs.sequence_methods import SEQUENCE_METHODS, SHARED_AXES
from betahead.runs.sequence_settings import SequenceSettings, default_cache, shared_reference
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.measures import MEASURES
from betahead.worlds.small_model import SmallModelSpec

TINY = SequenceSettings(
    corpus=300,
    reference=SmallModelSpec(
        hidden_size=32, layers=1, intermediate_size=64, vocab_size=400, tokens=40_000, row_tokens=128
    ),
    pairs=48,
    eval_prompts=8,
    test_prompts=10,
    max_new_tokens=12,
    held_out_pairs=16,
    corpus_texts=4,
    checkpoints=(0.5, 1.0),
)
GIVEN = {"learning_rate": 3e-3, "beta": 0.3, "beta_learning_rate": 1e-2, "rho": 0.1}
GIVEN |= {"noisy_over_clean": 4.0, "kept_noise": 0.3}
CONTROLS = {"permuted", "noise", "flipped", "matched"}
# One of every kind; the rest are made of the same parts.
QUICK = {"fixed", "perspective_quadratic", "weight_oracle", "noise:joint_plus", "rule:beta_dpo", "loss:ipo"}
# These need something of their own: a live reference, samples, a label smoothing.
QUICK |= {"rule:epsilon_dpo", "rule:kl_controller", "loss:exo_pair", "permuted:rule:mallows", "matched:rule:beta_dpo"}


def configuration(method, **changes):
    axes = (*SHARED_AXES, *SEQUENCE_METHODS[method].described.axes)
    return {axis.name: (GIVEN | changes)[axis.name] for axis in axes}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("references")


@pytest.fixture(scope="module")
def world(cache):
    return sequence_method_world(TINY, cache=cache)


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SEQUENCE_METHODS]
)
def test_every_method_trains_and_is_scored_from_the_reference_on(method, world, capsys):
    out = world.run(method, [configuration(method)], [0], split="eval")
    assert capsys.readouterr() == ("", "")
    assert out.reward.shape == out.kl.shape == out.win_rate.shape == (1, 1, 3, 8)
    assert out.checkpoints == (0.0, 0.5, 1.0) and out.same_prompts and out.finite.all()
    assert (out.kl[:, :, 0] == 0).all() and (out.win_rate[:, :, 0] == 0.5).all()
    assert (out.kl[:, :, 1:].mean(-1) > 1e-3).all()
    assert ((out.reward >= 0) & (out.reward <= 1)).all() and ((out.win_rate >= 0) & (out.win_rate <= 1)).all()
    assert out.log_beta is not None and out.log_beta.shape == (1, 1, 8)
    assert set(out.measures) == set(MEASURES)
    for name, value in out.measures.items():
        assert value.shape == (1, 1, 3) and np.isfinite(value[..., 1:]).all(), name
    assert out.topics is not None and out.topics.label_noise == tuple(t.label_noise for t in GrammarWorld().topics)
    # A topic whose pairs were dropped has no β.
    there = out.log_beta[np.isfinite(out.log_beta)]
    control, _, inner = method.rpartition(":")
    if control.startswith("matched"):
        assert np.ptp(there) < 1e-4
    elif SEQUENCE_METHODS[inner if control in CONTROLS else method].described.placebo:
        assert np.ptp(there) > 1e-4
    elif not control.endswith("rule"):
        np.testing.assert_allclose(there, math.log(0.3), rtol=1e-6)
    assert there.size == (6 if method == "weight_oracle" else 8)


def test_a_loss_that_needs_a_smoothing_has_one_and_is_not_dpo_under_another_name(world):
    runs = [world.run(name, [configuration(name)], [0], split="eval").kl for name in ("fixed", "loss:robust")]
    assert not np.array_equal(*runs)


def test_controllers_act_within_the_steps_of_a_run(cache):
    steps = SequenceSettings().steps
    quantile, kl = (SEQUENCE_METHODS[f"rule:{kind}_controller"].rule(GIVEN) for kind in ("quantile", "kl"))
    assert quantile.warmup <= steps // 10 and kl.kl_sampling.every <= steps // 10
    # 14 steps: two after the warm-up.
    longer = sequence_method_world(replace(TINY, pairs=112), cache=cache)
    name = "rule:quantile_controller"
    moved = longer.run(name, [configuration(name)], [0], split="eval").log_beta
    assert (np.abs(moved - math.log(0.3)) > 1e-4).all()


def test_the_noise_of_a_control_is_drawn_anew_for_every_seed(world, monkeypatch):
    seen = []
    moved = NoiseBeta.moved

    def watched(self, log_beta, mean, spread):
        seen.append(self.seed)
        return moved(self, log_beta, mean, spread)

    monkeypatch.setattr(NoiseBeta, "moved", watched)
    world.run("noise:joint_plus", [configuration("noise:joint_plus")], [3, 4], split="eval")
    assert set(seen) == {3, 4}


def test_a_run_repeats_and_a_renamed_copy_is_the_same_and_another_seed_is_not(world):
    runs = [
        world.run(name, [configuration(name)], [seed], split="test")
        for name, seed in (("fixed", 1), ("fixed", 1), ("renamed", 1), ("fixed", 2))
    ]
    for same in runs[1:3]:
        assert np.array_equal(runs[0].reward, same.reward) and np.array_equal(runs[0].kl, same.kl)
    assert not np.array_equal(runs[0].kl, runs[3].kl)
    assert np.array_equal(runs[0].reward[0, 0, 0], runs[3].reward[0, 0, 0])


def test_the_placebo_has_the_level_of_its_rule_and_none_of_its_allocation(world):
    # A head that stays where it starts: β = β₀·(log PPL/g), for each pair or for the one after it.
    found = {
        method: world.run(method, [configuration(method, beta_learning_rate=1e-12)], [0], split="eval").log_beta[0, 0]
        for method in ("perspective_quadratic", "permuted:perspective_quadratic")
    }
    rule, placebo = found.values()
    assert abs(rule.mean() - placebo.mean()) < 0.02 and abs(rule.mean() - math.log(0.3)) < 0.1
    # Topics are in turn, so a pair's neighbour is of another topic.
    assert np.ptp(rule) > 0.03 and np.corrcoef(rule, placebo)[0, 1] < 0.5


def test_a_run_that_diverges_is_recorded_as_such(world):
    out = world.run("fixed", [configuration("fixed", learning_rate=1e30)], [0], split="eval")
    assert not out.finite.any()
    assert np.isfinite(out.reward[:, :, 0]).all() and np.isnan(out.reward[:, :, 1:]).all()
    for name, value in out.measures.items():
        assert np.isnan(value[:, :, 1:]).all() or name == "trained_tokens"


def test_the_reference_says_nothing_of_pairs_and_has_not_moved(world):
    out = world.run("fixed", [configuration("fixed")], [0], split="test")
    start = {name: float(value[0, 0, 0]) for name, value in out.measures.items()}
    assert start["held_out_nll"] == start["tempered_nll"] == pytest.approx(math.log(2), abs=1e-6)
    assert start["held_out_ece"] == pytest.approx(0.0, abs=1e-5)
    for name in ("chosen_shift", "rejected_shift", "unrelated_kl", "unrelated_nll_rise", "kl_error", "trained_tokens"):
        assert abs(start[name]) < 1e-4, name
    assert 1 <= start["answer_tokens"] <= 12 and 0 <= start["cut"] <= 1
    assert out.measures["trained_tokens"][0, 0, 2] == pytest.approx(2 * out.measures["trained_tokens"][0, 0, 1])
    moved = {name: float(value[0, 0, -1]) for name, value in out.measures.items()}
    assert moved["unrelated_kl"] > 0 and moved["chosen_shift"] > moved["rejected_shift"]
    by_hand = out.kl[0, 0, -1].std(ddof=1) / out.kl.shape[-1] ** 0.5
    assert moved["kl_error"] == pytest.approx(by_hand)


def test_the_reference_is_fitted_once_and_named_by_its_content(cache):
    folder = shared_reference(TINY, cache)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert shared_reference(TINY, cache) == folder
    # What the reference does not depend on does not name it.
    assert shared_reference(replace(TINY, pairs=7, samples=3), cache) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    other = shared_reference(replace(TINY, corpus=200), cache)
    assert other != folder
    assert not list(cache.glob(".fitting-*"))


def test_a_reference_of_more_than_a_million_parameters_is_refused_and_leaves_nothing(tmp_path):
    large = replace(TINY, reference=SmallModelSpec(hidden_size=256, layers=4, tokens=512, row_tokens=128))
    with pytest.raises(
        ConfigError, match=r"^`reference` must have at most 1,000,000 parameters, but has [\d,]+ instead"
    ):
        shared_reference(large, tmp_path)
    assert not list(tmp_path.iterdir())


def test_references_are_kept_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "betahead" / "references"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path("~/.cache/betahead/references").expanduser()


def test_the_default_run_is_small_and_long_enough_to_be_early_stopped():
    settings = SequenceSettings()
    assert settings.steps == 120 and list(settings.scored_steps) == [12, 30, 60, 90, 120]


def test_clean_labels_are_those_of_gold():
    pairs = GrammarWorld().pairs(200, 3, "train")
    assert any(pair.flipped for pair in pairs)
    for pair in pairs:
        clean = clean_pair(pair)
        assert clean.chosen_gold > clean.rejected_gold and not clean.flipped
        assert {clean.chosen, clean.rejected} == {pair.chosen, pair.rejected}


def test_kl_targets_are_the_protocols_and_placebos_are_methods(world):
    assert world.kl_targets() == (1.0, 2.0, 5.0)
    for method in world.methods().values():
        assert method.placebo is None or world.methods()[method.placebo].axes == method.axes


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: w.run("dpo", [], [0], split="eval"), "`method` must be one of fixed, weight_oracle, "),
        (
            lambda w: w.run("permuted:loss:ipo", [], [0], split="eval"),
            re.compile(
                r".*, but is 'permuted:loss:ipo' instead; loss:ipo has one β for all pairs of a step, so that permuted "
                r"would leave it as it is; compare with a control of a method that gives each prompt or pair its own\.$"
            ),
        ),
        (
            lambda w: w.run("fixed", [GIVEN], [0], split="eval"),
            "`configurations` of fixed must each hold learning_rate, beta, but hold "
            "learning_rate, beta, beta_learning_rate, rho, noisy_over_clean, kept_noise instead.",
        ),
        (
            lambda w: w.run("fixed", [{"learning_rate": 0.0, "beta": 0.1}], [0], split="eval"),
            "`learning_rate` of fixed must be above 0, but is 0.0 instead.",
        ),
        (lambda _: replace(TINY, pairs=0), "`pairs` must be at least 1, but is 0 instead."),
        (
            lambda _: replace(TINY, checkpoints=(0.5, 0.9)),
            "`checkpoints` must be rising shares in (0, 1] that end at 1, but are (0.5, 0.9) instead.",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(call, message, world):
    with pytest.raises(ConfigError) as caught:
        call(world)
    said = str(caught.value)
    assert message.match(said) if isinstance(message, re.Pattern) else said.startswith(message)


def test_the_oracle_gives_each_topic_the_beta_that_its_noise_says(world):
    out = world.run("oracle", [configuration("oracle")], [0], split="eval")
    noise = np.array([topic.label_noise for topic in GrammarWorld().topics])
    wanted = math.log(0.3) + (noise / noise.max() - (noise / noise.max()).mean()) * math.log(4.0)
    np.testing.assert_allclose(out.log_beta[0, 0], wanted, atol=1e-5)
    flipped = world.run("flipped:oracle", [configuration("flipped:oracle")], [0], split="eval").log_beta[0, 0]
    assert np.corrcoef(flipped, wanted)[0, 1] < -0.9


def test_the_weight_oracle_drops_the_pairs_of_noisier_topics_and_no_others():
    world = GrammarWorld()
    pairs = world.pairs(64, 0, "train")
    lessons = SEQUENCE_METHODS["weight_oracle"].lessons({"kept_noise": 0.3}, world.topics)
    kept = lessons.training_data(pairs)
    assert lessons.dropped == {topic.name for topic in world.topics if topic.label_noise > 0.3}
    assert set(kept["domain"]) == {topic.name for topic in world.topics} - lessons.dropped
    assert len(kept) == sum(pair.prompt.topic not in lessons.dropped for pair in pairs)
    assert SEQUENCE_METHODS["weight_oracle"].lessons({"kept_noise": 0.45}, world.topics) == Lessons()
    # Held-out pairs are of all topics.
    assert set(lessons.data(pairs)["domain"]) == {topic.name for topic in world.topics}


def test_a_plan_of_the_language_model_has_its_controls_oracles_and_headroom():
    text = """
name: sequence-controls
question: Can a plan of the language model ask for headroom, bounds and a mechanism?
cells: [sequence/grammar]
methods: {fixed: {}, joint_plus: {}, "permuted:joint_plus": {}, oracle: {}, "permuted:oracle": {}, weight_oracle: {}}
axes:
  learning_rate: {low: 1.0e-4, high: 3.0e-3}
  beta: {low: 0.03, high: 1.0}
pool: {configurations: 6, trials: 4, seeds: 1}
finals: {seeds: 9}
rope: 0.02
comparisons:
  - {a: joint_plus, b: fixed, claim: mechanism}
  - {a: oracle, b: fixed, claim: bound}
  - {a: weight_oracle, b: fixed, claim: bound}
headroom: {fixed: fixed, oracle: oracle, learned: [joint_plus]}
"""
    resolved = resolve(load_plan(text), world_of)
    assert resolved.family == 4 and list(resolved.spaces["oracle"])[2:] == ["noisy_over_clean"]


def test_controls_of_rules_are_no_part_of_a_hash_that_does_not_name_them(world):
    named = {row["name"] for row in world.fingerprint()["methods"]}
    controls = {name for name in SEQUENCE_METHODS if re.match("(permuted|noise|flipped|matched):rule:", name)}
    assert controls and named == SEQUENCE_METHODS.keys() - controls
    assert world.declared(["fixed", "rule:beta_dpo"]) == {}
    (declared,) = world.declared(["fixed", "flipped:rule:beta_dpo"]).values()
    assert declared["name"] == "flipped:rule:beta_dpo" and declared["parent"] == "fixed"
    assert not controls & {"flipped:rule:wpo", "permuted:rule:quantile_controller"} and "permuted:rule:odpo" in controls
