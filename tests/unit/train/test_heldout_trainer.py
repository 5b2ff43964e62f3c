"""The trainer with a rule that follows held-out pairs: what it keeps apart, refuses and logs."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.train.trainer import DPOTrainer


def trainer_of(folder: Path, data: Any, held_out: Any = None, **settings: Any) -> DPOTrainer:
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **settings),
        train_dataset=data,
        eval_dataset=held_out,
        processing_class=tiny.tokenizer(),
        beta=LearnedBeta(learning="heldout"),
    )


def test_prompts_that_are_followed_are_scored_and_not_trained_on(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, tiny.pairs(40, prompts=20))
    followed = trainer.held_out
    assert followed is not None
    assert len(set(followed.dataset["prompt_id"])) == 2
    assert set(followed.dataset["prompt_id"]).isdisjoint(trainer.train_dataset["prompt_id"])
    assert "ref_chosen_logps" in followed.dataset.column_names


def test_the_held_out_loss_is_a_line_of_training_and_not_of_evaluation(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path,
        tiny.pairs(20),
        tiny.pairs(6, seed=1),
        eval_strategy="steps",
        eval_steps=2,
        max_steps=2,
        learning_rate=1e-5,
    )
    trainer.train()
    history = trainer.state.log_history
    assert all("heldout/loss" in line for line in history if "loss" in line)
    assert not any("heldout" in name for line in history if "eval_loss" in line for name in line)
    # The policy is the reference at first, and one step moves it little.
    assert history[0]["heldout/loss"] == pytest.approx(torch.tensor(2.0).log().item(), abs=0.01)


def test_without_pairs_to_train_on_nothing_is_followed(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, None, tiny.pairs(6))
    assert trainer.held_out is None
    assert trainer.evaluate()["eval_margins/nats"] == pytest.approx(0.0, abs=1e-5)


def test_an_optimizer_whose_step_is_not_known_is_refused_when_it_is_made(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, tiny.pairs(20), optim="adagrad")
    with pytest.raises(ConfigError, match="which looks one step ahead, but is Adagrad instead; use adamw_torch"):
        trainer.create_optimizer()
