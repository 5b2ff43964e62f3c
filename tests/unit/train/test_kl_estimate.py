import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from accelerate import DistributedType
from datasets import Dataset, concatenate_datasets
from peft import LoraConfig

from betahead.beta.budget import BudgetLearning
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.evaluate.kl import KLToReference, kl_to_reference
from betahead.train.kl_estimate import kl_estimates_for
from betahead.train.trainer import DPOTrainer


def budget(target: float = 1.0, **learning: Any) -> LearnedBeta:
    """A rule on a budget that samples few short answers."""
    said = {"kind": "budget", "target_kl": target, "allocation": "none", "kl_every": 3, "kl_prompts": 8, "kl_tokens": 4}
    return LearnedBeta(ppl_exponent=0.0, max_correction=0.0, learning=said | learning)


def trainer_for(folder: Path, beta: LearnedBeta, **changes: Any) -> DPOTrainer:
    parts: dict[str, Any] = {
        "model": tiny.qwen2(),
        "ref_model": None,
        "train_dataset": tiny.pairs(12),
        "processing_class": tiny.tokenizer(),
        "peft_config": None,
    }
    own = {name: changes.pop(name) for name in list(changes) if name in parts}
    return DPOTrainer(args=tiny.arguments(folder, **changes), beta=beta, **(parts | own))


def of(trainer: DPOTrainer) -> BudgetLearning:
    assert isinstance(trainer.rule, LearnedBeta) and isinstance(trainer.rule.mode, BudgetLearning)
    return trainer.rule.mode


def exactly(trainer: DPOTrainer, samples: int = 40) -> KLToReference:
    """The KL on all training prompts, from many answers."""
    assert trainer.kl_estimates is not None
    return kl_to_reference(
        trainer.model.policy,
        None if trainer.reference.adapters_off else trainer.reference.model,
        trainer.kl_estimates.tokenizer,
        [trainer.train_dataset[row]["prompt_ids"] for row in trainer.kl_estimates.rows],
        samples=samples,
        max_new_tokens=4,
        seed=9,
        eos_token_ids=trainer.kl_estimates.ends,
        batch_size=64,
    )


def test_a_policy_that_has_not_moved_is_at_zero_and_one_that_has_is_not(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, budget(), max_steps=4)
    assert trainer.kl_estimates is not None
    assert trainer.kl_estimates.measured(3) == pytest.approx(0.0, abs=1e-6)
    trainer.train()
    assert trainer.kl_estimates.estimates == 1
    assert of(trainer).kl.item() == pytest.approx(0.75 * trainer.kl_estimates.last)  # a moving average from 0
    assert trainer.kl_estimates.last > 0.001


@tiny.OLD_NAMES
@pytest.mark.parametrize("adapter", [False, True], ids=["whole", "lora"])
def test_the_estimates_are_about_the_kl_of_the_policy(adapter: bool, tmp_path: Path) -> None:
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    trainer = trainer_for(
        tmp_path, budget(kl_prompts=96), max_steps=9, learning_rate=0.05, peft_config=lora if adapter else None
    )
    trainer.train()
    assert trainer.kl_estimates is not None
    found = exactly(trainer).kl
    assert found.nats > 0.05
    assert trainer.kl_estimates.measured(9) == pytest.approx(found.nats, rel=0.35)


def test_estimates_leave_weights_random_state_and_mode_as_they_were(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, budget())
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.train()
    state = torch.get_rng_state()
    assert trainer.kl_estimates is not None
    trainer.kl_estimates.measured(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.model.training and trainer.model.policy.training
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_every_prompt_gets_its_turn(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, budget(kl_every=2, kl_prompts=5))
    assert trainer.kl_estimates is not None
    asked = [tuple(prompt) for step in (2, 4, 6, 8, 10, 12) for prompt in trainer.kl_estimates._prompts(step)]
    distinct = {tuple(row["prompt_ids"]) for row in trainer.train_dataset}
    assert len(asked) == 30 and set(asked) == distinct
    counts = [asked.count(prompt) for prompt in distinct]
    assert max(counts) - min(counts) <= 1


def test_a_training_that_was_resumed_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = trainer_for(tmp_path / "a", budget(), max_steps=10, learning_rate=0.03)
    whole.train()
    first = trainer_for(tmp_path / "b", budget(), max_steps=10, learning_rate=0.03, save_steps=4, save_strategy="steps")
    first.train()
    again = trainer_for(tmp_path / "b", budget(), max_steps=10, learning_rate=0.03)
    again.train(resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-4"))
    assert of(whole).log_level.item() != 0.0
    for name in ("log_level", "kl"):
        torch.testing.assert_close(getattr(of(again), name), getattr(of(whole), name))


def test_the_log_shows_level_and_estimate_and_the_cost_is_said(tmp_path: Path, capsys: Any) -> None:
    trainer = trainer_for(tmp_path, budget(), max_steps=4, disable_tqdm=False)
    trainer.train()
    line = [one for one in trainer.state.log_history if "loss" in one][-1]
    assert line["beta/base"] == pytest.approx(0.1 * math.exp(of(trainer).log_level.item()), rel=1e-5)
    assert line["kl/estimate"] == pytest.approx(of(trainer).kl.item(), rel=1e-5)
    assert "budget     1 KL estimates of 8 answers took " in capsys.readouterr().out


def test_a_rule_that_reads_its_answers_samples_nothing_and_holds_no_second_model(tmp_path: Path) -> None:
    learning = {"kind": "budget", "target_kl": 1.0, "allocation": "none", "kl_from": "answers"}
    trainer = trainer_for(tmp_path, LearnedBeta(learning=learning), max_steps=3)
    assert trainer.kl_estimates is None
    assert trainer.reference.model is trainer.model.policy
    trainer.train()
    assert of(trainer).kl.item() != 0.0


def test_sampling_keeps_a_reference_that_does_not_move(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, budget())
    assert trainer.reference.model is not trainer.model.policy


def test_weights_that_are_spread_over_processes_are_refused(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, budget())
    state = trainer.accelerator.state
    held, state.distributed_type = state.distributed_type, DistributedType.FSDP
    try:
        with pytest.raises(ConfigError) as error:
            kl_estimates_for(
                trainer.rule,
                trainer.model.policy,
                trainer.reference,
                tiny.tokenizer(),
                trainer.train_dataset,
                trainer.settings,
                trainer.accelerator,
            )
    finally:
        state.distributed_type = held
    assert str(error.value) == (
        "`beta.learning.kl_from` must be answers where a policy's weights are spread over processes (FSDP), because it "
        "does not sample on its own there, but is samples instead."
    )


def disagreeing(pairs: Dataset) -> Dataset:
    """Every pair twice as it is and once the other way round, so that β decides where the policy rests."""
    turned = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"}).select_columns(pairs.column_names)
    return concatenate_datasets([pairs, pairs, turned])


@pytest.mark.parametrize(
    ("beta", "steps"),
    [(0.03, 80), pytest.param(0.03, 250, marks=pytest.mark.slow), pytest.param(3.0, 250, marks=pytest.mark.slow)],
)
def test_a_language_model_ends_near_its_budget_wherever_beta_starts(beta: float, steps: int, tmp_path: Path) -> None:
    said = {"target_kl": 1.0, "allocation": "none", "kl_every": 2, "kl_prompts": 24, "kl_tokens": 4}
    trainer = trainer_for(
        tmp_path,
        LearnedBeta(ppl_exponent=0.0, max_correction=0.0, initial_beta=beta, learning={"kind": "budget"} | said),
        train_dataset=disagreeing(tiny.pairs(12)),
        max_steps=steps,
        learning_rate=1e-3,
        per_device_train_batch_size=12,
        per_device_eval_batch_size=32,
        logging_steps=100,
    )
    trainer.train()
    assert exactly(trainer).kl.nats == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize(("every", "refused"), [(2, False), (3, True), (40, True)])
def test_a_training_that_is_over_before_an_estimate_could_move_beta_is_refused(
    every: int, refused: bool, tmp_path: Path
) -> None:
    trainer = trainer_for(tmp_path, budget(kl_every=every), max_steps=3)
    if not refused:
        trainer.train()
        assert of(trainer).log_level.item() != 0.0
        return
    with pytest.raises(ConfigError) as caught:
        trainer.train()
    assert str(caught.value) == (
        f"`beta.learning.kl_every` must be below the number of steps, 3, but is {every} instead, so that β would never "
        "follow a KL; lower it or train longer."
    )
    assert trainer.state.global_step == 0
