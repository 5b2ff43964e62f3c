"""A controller of one β on a KL: its formula, its state, and that a policy ends near its target."""

import math
from pathlib import Path
from typing import Any

import pytest
import readings
import tiny
import torch
from datasets import Dataset, concatenate_datasets
from waits import Waits

from betahead.beta.files import load_rule, save_rule
from betahead.beta.kl_controller import KLController
from betahead.errors import ConfigError
from betahead.evaluate.kl import kl_to_reference
from betahead.train.trainer import DPOTrainer
from betahead.types import PairReading


def controller(**settings: Any) -> KLController:
    return KLController(**({"target_kl": 2.0, "kl_from": "answers"} | settings))


def away(pairs: int, nats: float, seed: int = 0) -> PairReading:
    """Pairs whose answers lie about so many nats below the reference."""
    pair = readings.reading(pairs, seed=seed, moved=0.3)
    parts = vars(pair) | {name: vars(pair)[name] - nats for name in ("chosen_logps", "rejected_logps")}
    return PairReading(**parts)


def step(rule: KLController, *passes: PairReading) -> list[float]:
    """One step over these passes; β and weight that the first pair got."""
    shaping = [readings.shaped(rule, pair) for pair in passes]
    rule.step_taken(lambda t: t)
    return [float(shaping[0].beta[0]), float(shaping[0].weight[0])]


@pytest.mark.parametrize("push", ["even", "beta"])
def test_it_is_its_formula_however_a_step_is_cut(push: str) -> None:
    rule = controller(initial_beta=0.2, rate=0.1, push=push, min_beta=0.05, max_beta=0.5).double()
    log_beta, average, before = math.log(0.2), 0.0, -1.0
    at_bound = 0
    for number, nats in enumerate((0.0, 0.5, 3.0, 6.0, 1.0, 2.0, 0.1, 0.1, 0.1)):
        pair = away(7, nats, seed=number)
        found = step(rule, readings.some(pair, slice(0, 2)), readings.some(pair, slice(2, 7)))
        assert found == pytest.approx([math.exp(log_beta), 0.2 / math.exp(log_beta) if push == "even" else 1.0])
        estimate = 0.0
        for i in range(7):
            chosen = float(pair.chosen_logps[i] - pair.reference_chosen_logps[i])
            rejected = float(pair.rejected_logps[i] - pair.reference_rejected_logps[i])
            estimate += -(chosen + rejected) / 2 / 7
        average = 0.8 * average + 0.2 * estimate
        excess = min(max(average / 2.0 - 1, -1.0), 1.0)
        log_beta += 0.1 * (excess + 40 * (excess - before))
        before = excess
        log_beta = min(max(log_beta, math.log(0.05)), math.log(0.5))
        at_bound += log_beta in (math.log(0.05), math.log(0.5))
    assert at_bound > 0
    assert float(rule.log_metrics()["kl/estimate"]) == pytest.approx(average, rel=1e-9)


def test_two_ranks_move_it_as_one_process_on_the_pairs_of_both() -> None:
    alone, first, second = (controller().double() for _ in range(3))
    for number in range(3):
        pair = away(6, 1.0 + number, seed=number)
        parts = [readings.some(pair, slice(0, 2)), readings.some(pair, slice(2, 6))]
        step(alone, pair)
        for rule, part in zip((first, second), parts, strict=True):
            readings.shaped(rule, part)
        sums = first._answers._sums + second._answers._sums
        for rule in (first, second):
            rule.step_taken(lambda _, sums=sums: sums)
    for rule in (first, second):
        torch.testing.assert_close(rule.log_ratio, alone.log_ratio, rtol=1e-12, atol=0.0)
    assert float(alone.log_ratio) != 0.0


def test_an_estimate_from_samples_counts_for_the_steps_since_the_one_before() -> None:
    rule = controller(kl_from="samples", kl_every=4, rate=0.01)
    assert rule.needs == frozenset() and rule.kl_sampling is not None and rule.kl_sampling.every == 4
    assert rule.kl_sampling.key == "beta.kl_from"
    readings.shaped(rule, away(3, 5.0))
    rule.step_taken(lambda t: t)
    assert float(rule.log_ratio) == 0.0, "the answers of the pairs are not read"
    rule.kl_measured(3.0)  # on average 2.25 of 2
    assert float(rule.log_ratio) == pytest.approx(0.01 * (4 * 0.125 + 40 * 1.125), rel=1e-5)


def test_evaluation_and_scoring_without_gradient_move_nothing() -> None:
    rule = controller()
    readings.shaped(rule.eval(), away(3, 5.0))
    with torch.no_grad():
        readings.shaped(rule.train(), away(3, 5.0))
    rule.step_taken(lambda t: t)
    assert float(rule.log_ratio) == 0.0 and float(rule.kl) == 0.0


def test_it_comes_back_from_its_files_and_goes_on_as_before(tmp_path: Path) -> None:
    rule = controller()
    step(rule, away(4, 5.0))
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    again = load_rule(tmp_path)
    assert isinstance(again, KLController) and again.settings == rule.settings
    for seed in range(2):
        assert step(again, away(4, 1.0, seed)) == step(rule, away(4, 1.0, seed))
    sampled = controller(kl_from="samples", kl_every=3)
    assert KLController(**sampled.settings).settings == sampled.settings


def test_a_policy_that_is_its_reference_has_the_beta_that_it_began_with() -> None:
    found = step(controller(initial_beta=0.3), readings.reading(4, moved=0.0, dtype=torch.float32))
    assert found == pytest.approx([0.3, 1.0])


def test_the_weight_in_a_control_follows_the_changed_beta() -> None:
    for push, weight in (("even", 0.25), ("beta", 1.0)):
        rule = controller(initial_beta=0.1, push=push)
        shaping = readings.shaped(rule, away(3, 1.0))
        changed = rule.reshaped(shaping, torch.full_like(shaping.beta, 0.4))
        assert changed.weight.tolist() == pytest.approx([weight] * 3)


def test_a_step_on_answers_waits_for_nothing() -> None:
    rule, pair = controller(), away(4, 1.0)
    features, margin = readings.given(pair, rule)
    with Waits() as seen:
        for _ in range(2):
            rule(features, margin)
            rule.step_taken(lambda t: t)
    assert seen == []


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "target": ({"target_kl": 0.0}, "`beta.target_kl` must be a positive number, but is 0.0 instead."),
    "rate": ({"rate": -1.0}, "`beta.rate` must be a positive number, but is -1.0 instead."),
    "push": ({"push": "odd"}, "`beta.push` must be one of even, beta, but is 'odd' instead."),
    "from": ({"kl_from": "prompts"}, "`beta.kl_from` must be one of samples, answers, but is 'prompts' instead."),
    "every": (
        {"kl_every": 3},
        "`beta.kl_every` applies only with kl_from: samples, but is 3 here; remove it.",
    ),
    "prompts": (
        {"kl_from": "samples", "kl_prompts": 0},
        "`beta.kl_prompts` must be a whole number of at least 1, but is 0 instead.",
    ),
    "lower bound": ({"min_beta": 0.0}, "`beta.min_beta` must be a positive number, but is 0.0 instead."),
    "bounds": (
        {"initial_beta": 0.5, "max_beta": 0.2},
        "`beta.initial_beta` must be within `beta.min_beta` and `beta.max_beta`, 0.001 and 0.2, but is 0.5 instead.",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", MISTAKES)
def test_a_setting_out_of_range_is_refused_with_its_name(case: str) -> None:
    settings, message = MISTAKES[case]
    with pytest.raises(ConfigError) as caught:
        controller(**settings)
    assert str(caught.value) == message


def trainer(folder: Path, rule: KLController, **changes: Any) -> DPOTrainer:
    train = changes.pop("train_dataset", tiny.pairs(12))
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **changes),
        train_dataset=train,
        processing_class=tiny.tokenizer(),
        beta=rule,
    )


@pytest.mark.parametrize(
    "settings", [{}, {"kl_from": "samples", "kl_every": 2, "kl_prompts": 4, "kl_tokens": 4}], ids=str
)
def test_a_resumed_run_ends_where_one_that_went_on_ends(settings: dict[str, Any], tmp_path: Path) -> None:
    said = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    whole = trainer(tmp_path / "one", controller(**settings), **said)
    whole.train()
    assert float(whole.rule.log_ratio) != 0.0
    again = trainer(tmp_path / "two", controller(**settings), **said)
    again.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-3"))
    for name in ("log_ratio", "kl"):
        torch.testing.assert_close(getattr(again.rule, name), getattr(whole.rule, name))
    line = [one for one in whole.state.log_history if "loss" in one][-1]
    assert {"kl/estimate", "beta/level", "beta/at_bound"} <= set(line)


def disagreeing(pairs: Dataset) -> Dataset:
    """Every pair twice as it is and once the other way round, so that β decides where the policy rests."""
    turned = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"}).select_columns(pairs.column_names)
    return concatenate_datasets([pairs, pairs, turned])


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.03, 3.0])
def test_a_language_model_ends_near_its_target_wherever_beta_starts(beta: float, tmp_path: Path) -> None:
    said = {"kl_from": "samples", "kl_every": 2, "kl_prompts": 24, "kl_tokens": 4}
    made = trainer(
        tmp_path,
        controller(initial_beta=beta, target_kl=1.0, **said),
        train_dataset=disagreeing(tiny.pairs(12)),
        max_steps=250,
        learning_rate=1e-3,
        per_device_train_batch_size=12,
        per_device_eval_batch_size=32,
        logging_steps=100,
    )
    made.train()
    assert made.kl_estimates is not None
    found = kl_to_reference(
        made.model.policy,
        made.reference.model,
        made.kl_estimates.tokenizer,
        [made.train_dataset[row]["prompt_ids"] for row in made.kl_estimates.rows],
        samples=40,
        max_new_tokens=4,
        seed=9,
        eos_token_ids=made.kl_estimates.ends,
        batch_size=64,
    )
    assert found.kl.nats == pytest.approx(1.0, rel=0.2)
