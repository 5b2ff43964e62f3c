"""Rules of the batch or the pair in a trainer: a run of each, resumed, evaluated on the way, on both roads."""

from pathlib import Path
from typing import Any

import pytest
import readings
import tiny
import torch
from datasets import Dataset
from readings import quick
from torch import Tensor

from betahead.beta.rule import BetaRule
from betahead.errors import ConfigError, DataError
from betahead.train.trainer import DPOTrainer


def pairs(count: int, seed: int = 0) -> Dataset:
    made = tiny.pairs(count, seed=seed)
    return made.add_column("reward_margin", [0.3 * (i % 5) - 0.5 for i in range(len(made))])


def trainer(folder: Path, rule: BetaRule, **changes: Any) -> DPOTrainer:
    settings = {"per_device_train_batch_size": 4, "max_steps": 6, "data_seed": 1, "save_strategy": "steps"}
    torch.manual_seed(0)
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **(settings | {"save_steps": 3} | changes)),
        train_dataset=pairs(16),
        eval_dataset=pairs(5, seed=3),
        processing_class=tiny.tokenizer(),
        beta=rule,
    )


def lines(made: DPOTrainer) -> list[dict[str, float]]:
    return [line for line in made.state.log_history if "loss" in line]


def state(made: DPOTrainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.model.state_dict().items()}


@pytest.mark.parametrize("kind", readings.RULES)
def test_a_resumed_run_ends_where_one_that_went_on_ends(kind: str, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "one", readings.lively(kind))
    start = state(whole)
    whole.train()
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines(whole))
    assert any(not torch.equal(value, start[name]) for name, value in state(whole).items() if "policy" in name)
    if kind in readings.MOVING:
        assert any(not torch.equal(value, start[name]) for name, value in state(whole).items() if "rule" in name)
    shown = set(whole.rule.log_metrics()) | {"beta/mean", "beta/level", "margins/nats"}
    assert shown <= set(lines(whole)[-1])

    resumed = trainer(tmp_path / "two", readings.lively(kind))
    resumed.train(resume_from_checkpoint=str(tmp_path / "one" / "checkpoint-3"))
    assert [line["step"] for line in lines(resumed)] == [1, 2, 3, 4, 5, 6]
    for name, value in state(whole).items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", quick(readings.MOVING, "beta_dpo", "gamma_po"))
def test_evaluating_on_the_way_changes_no_step(kind: str, tmp_path: Path) -> None:
    quiet = trainer(tmp_path / "one", readings.lively(kind), max_steps=3, save_strategy="no")
    asked = trainer(
        tmp_path / "two",
        readings.lively(kind),
        max_steps=3,
        save_strategy="no",
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
    )
    quiet.train(), asked.train()
    for name, value in state(quiet).items():
        assert torch.equal(asked.model.state_dict()[name], value), name
    measured = [line["eval_loss"] for line in asked.state.log_history if "eval_loss" in line]
    assert len(measured) == 4
    assert asked.evaluate()["eval_loss"] == measured[-1], "an evaluation is the same every time"


@pytest.mark.parametrize("kind", quick(["alpha_dpo", "amapo", "beta_dpo"], "alpha_dpo"))
def test_both_roads_show_a_rule_the_same_pairs(kind: str, tmp_path: Path) -> None:
    # Padding of the plain road, in which the last token of a short answer is followed by others, must not be read.
    first, second = (
        trainer(tmp_path / road, readings.lively(kind), forward=road, max_steps=3, save_strategy="no")
        for road in ("shared", "separate")
    )
    first.train(), second.train()
    for one, other in zip(lines(first), lines(second), strict=True):
        for name in ("loss", "beta/mean", *first.rule.log_metrics()):
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-5), name


def test_a_rule_without_its_column_is_refused_before_training(tmp_path: Path) -> None:
    rule = readings.RULES["dama"](data="reward_margin")
    with pytest.raises(DataError) as caught:
        DPOTrainer(
            tiny.qwen2(),
            args=tiny.arguments(tmp_path),
            train_dataset=tiny.pairs(4),
            processing_class=tiny.tokenizer(),
            beta=rule,
        )
    assert str(caught.value) == (
        "the data must have a column `reward_margin` for `beta.kind: dama`, but have none; add it, a number for each "
        "pair, or use another rule."
    )


@pytest.mark.parametrize("kind", ["beta_dpo", "adaptive_scaling"])
def test_a_budget_of_tokens_would_cut_the_batch_of_a_rule_that_reads_it(kind: str, tmp_path: Path) -> None:
    if readings.RULES[kind].reads != "batch":
        trainer(tmp_path, readings.lively(kind), max_batch_tokens=20, max_steps=1, save_strategy="no").train()
        return
    with pytest.raises(ConfigError) as caught:
        trainer(tmp_path, readings.lively(kind), max_batch_tokens=20)
    assert str(caught.value) == (
        "`max_batch_tokens` must be None with a rule that reads the batch, but is 20 instead; it would cut the batch "
        f"that `beta.kind: {kind}` takes its statistics of."
    )


@pytest.mark.parametrize("kind", ["beta_dpo", "dama", "alpha_dpo", "gamma_po", "amapo", "adaptive_scaling"])
def test_one_pair_has_no_statistics(kind: str, tmp_path: Path) -> None:
    if readings.RULES[kind].reads != "batch":
        trainer(tmp_path, readings.lively(kind), per_device_train_batch_size=1)
        return
    with pytest.raises(ConfigError) as caught:
        trainer(tmp_path, readings.lively(kind), per_device_train_batch_size=1)
    assert str(caught.value) == (
        "`per_device_train_batch_size` must be at least 2 on one process with a rule that reads the batch, but is 1 "
        f"instead; `beta.kind: {kind}` takes statistics of the batch, and one pair has none."
    )


@pytest.mark.parametrize("kind", quick(readings.RULES, "beta_dpo"))
def test_a_last_batch_of_one_pair_is_trained_on_and_leaves_the_statistics_as_they_were(
    kind: str, tmp_path: Path
) -> None:
    settings = {"per_device_train_batch_size": 5, "save_strategy": "no"}  # 5, 5, 5 and 1 of 16 pairs
    three, four = (trainer(tmp_path, readings.lively(kind), max_steps=steps, **settings) for steps in (3, 4))
    three.train()
    four.train()
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines(four))
    moved = {name for name, value in state(four).items() if not torch.equal(value, state(three)[name])}
    assert any("policy" in name for name in moved)
    assert {name for name in moved if "rule" in name} == (
        {"rule.queue", "rule.added"} if kind == "gamma_po" else set[str]()
    )


@pytest.mark.parametrize("kind", ["alpha_dpo", "amapo", "gamma_po", "adaptive_scaling"])
def test_a_loss_that_a_rule_is_not_made_for_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`loss\.kind` must be .*sigmoid with this beta rule, but is ipo instead;"):
        trainer(tmp_path, readings.lively(kind), loss_type="ipo")
