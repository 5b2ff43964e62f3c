"""What a loss asks of the trainer: a reference or none, state in checkpoints, and pairs that go together."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from betahead.errors import ConfigError, DataError
from betahead.forward.model import PreferenceModel
from betahead.losses.objective import objective_of
from betahead.losses.table import LOSSES
from betahead.reference.frozen import FrozenReference
from betahead.train.checkpoint import load_model_folder, save_model_folder
from betahead.train.trainer import DPOTrainer


def trainer(folder: Path, *, beta: Any = 0.3, ref_model: Any = None, pairs: int = 12, **settings: Any) -> DPOTrainer:
    return DPOTrainer(
        tiny.qwen2(),
        ref_model,
        tiny.arguments(folder, **settings),
        train_dataset=tiny.pairs(pairs),
        eval_dataset=tiny.pairs(4, seed=3),
        processing_class=tiny.tokenizer(),
        beta=beta,
    )


@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_every_loss_trains_from_where_policy_and_reference_are_one(kind: str, tmp_path: Path) -> None:
    smoothing = 0.1 if LOSSES[kind].smooths == "must" else 0.0
    made = trainer(tmp_path, loss_type=kind, label_smoothing=smoothing, max_steps=2, pairs=6)
    start = tiny.qwen2()
    made.train()
    losses = [line["loss"] for line in made.state.log_history if "loss" in line]
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()
    moved = [not torch.equal(p, start.get_parameter(name)) for name, p in made.model.policy.named_parameters()]
    assert all(moved)


@pytest.mark.parametrize("kinds", ["simpo", "sft", ["simpo", "sft"]], ids=str)
def test_no_reference_is_scored_where_none_is_read(
    kinds: str | list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores(*_: Any) -> None:
        raise AssertionError("the reference was asked")

    monkeypatch.setattr(FrozenReference, "scores", scores)
    made = trainer(tmp_path, loss_type=kinds)
    made.train()
    made.evaluate()
    made.evaluate(tiny.pairs(4, seed=8))
    assert "ref_chosen_logps" not in made.train_dataset.column_names
    assert made.reference.model is made.model.policy


def test_a_rule_of_the_references_perplexity_has_it_scored_all_the_same(tmp_path: Path) -> None:
    made = trainer(tmp_path, loss_type="simpo", beta=tiny.LearnedBeta(ppl_from="reference"))
    made.train()
    assert {"ref_log_ppl", "ref_chosen_logps"} <= set(made.train_dataset.column_names)


def test_without_a_reference_the_reward_is_beta_times_the_log_probability_per_token(tmp_path: Path) -> None:
    made = trainer(tmp_path, loss_type="simpo")
    rows = [made.train_dataset[i] for i in range(4)]
    _, shown = made.compute_loss(made.model, dict(made.collate(rows)), return_outputs=True)
    tokens = torch.tensor([len(row["chosen_ids"]) for row in rows])
    torch.testing.assert_close(shown["chosen_rewards"], 0.3 * shown["chosen_logps"] / tokens)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ref_model": True}, "`ref_model` must be left out with `loss.kind` simpo, which reads no reference, but is "),
        ({"reference_cache": "cache"}, "`reference_cache` must be left out with `loss.kind` simpo, which reads no "),
        ({"precompute_ref_log_probs": False}, "`precompute_ref_log_probs` must be left out with `loss.kind` simpo, "),
    ],
)
def test_a_reference_that_would_not_be_read_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    changes = {name: tiny.qwen2(1) if name == "ref_model" else value for name, value in changes.items()}
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}.*remove it\\.$"):
        trainer(tmp_path, loss_type="simpo", **changes)


def test_the_shift_is_the_mean_reward_of_what_was_trained_on_and_evaluation_leaves_it(tmp_path: Path) -> None:
    made = trainer(tmp_path, loss_type="bco", max_steps=2, gradient_accumulation_steps=2)
    made.train()
    assert made.model.shift is not None
    lines = [line for line in made.state.log_history if "loss" in line]
    rewards = [(line["rewards/chosen"] + line["rewards/rejected"]) / 2 for line in lines]
    assert made.model.shift.mean.item() == pytest.approx(sum(rewards) / 2, rel=1e-4)
    assert made.model.shift.pairs.item() == 8
    before = made.model.shift.mean.item()
    made.evaluate()
    assert made.model.shift.mean.item() == before != 0.0


def test_a_run_that_is_resumed_has_the_shift_of_its_checkpoint(tmp_path: Path) -> None:
    settings = {"loss_type": "bco", "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    again = trainer(tmp_path / "again", **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert whole.model.shift is not None and again.model.shift is not None
    assert again.model.shift.mean.item() == pytest.approx(whole.model.shift.mean.item(), rel=1e-5)
    for name, weight in whole.model.policy.named_parameters():
        torch.testing.assert_close(again.model.policy.get_parameter(name), weight)


def test_a_checkpoint_without_the_state_of_the_loss_is_incomplete(tmp_path: Path) -> None:
    plain, shifted = (
        PreferenceModel(tiny.qwen2(), tiny.built(), objective=objective_of(kind)) for kind in ("bco_pair", "bco")
    )
    save_model_folder(plain, tmp_path, None)
    assert not list(tmp_path.glob("loss_state*"))
    sentence = f"`{tmp_path}` must hold loss_state.safetensors, but does not; the checkpoint is incomplete."
    with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"):
        load_model_folder(shifted, tmp_path)


def test_losses_of_the_batch_act_on_each_micro_batch(tmp_path: Path) -> None:
    made = trainer(tmp_path, loss_type="dr_dpo", per_device_train_batch_size=4, ref_model=tiny.qwen2(1))
    rows = [made.train_dataset[i] for i in range(8)]

    def loss(part: list[Any], pairs: int | None = None) -> float:
        found = made.compute_loss(made.model, dict(made.collate(part)), num_items_in_batch=pairs)
        assert isinstance(found, torch.Tensor)
        return found.item()

    halves = [loss(rows[:4]), loss(rows[4:])]
    assert loss(rows[:4], 8) + loss(rows[4:], 8) == pytest.approx(sum(halves) / 2)
    assert loss(rows) != pytest.approx(sum(halves) / 2, rel=1e-4)
