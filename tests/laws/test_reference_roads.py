"""A reference computed beforehand, live, or with the adapters off is one reference."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig

from betahead.beta.learned import LearnedBeta
from betahead.train.trainer import DPOTrainer

LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": True}


def trained(folder: Path, *, lora: bool, separate: bool, ppl_from: str, **settings: Any) -> DPOTrainer:
    # An adapter starts from the global random state.
    torch.manual_seed(0)
    trainer = DPOTrainer(
        tiny.qwen2(),
        tiny.qwen2() if separate else None,
        tiny.arguments(folder, max_steps=6, learning_rate=3e-3, **settings),
        train_dataset=tiny.pairs(14),
        eval_dataset=tiny.pairs(7, seed=9),
        processing_class=tiny.tokenizer(),
        peft_config=LoraConfig(**LORA) if lora else None,
        beta=LearnedBeta("mlp", ppl_from=ppl_from),
    )
    trainer.train()
    return trainer


def lines(trainer: DPOTrainer, *names: str) -> list[list[float]]:
    return [[line[name] for name in names] for line in trainer.state.log_history if "loss" in line]


def rounding(trainer: DPOTrainer) -> float:
    """A margin is made of four log-probabilities, each right to a unit in its last place, however batches are made."""
    columns = (trainer.train_dataset[name] for name in ("ref_chosen_logps", "ref_rejected_logps"))
    largest = max(abs(value) for column in columns for value in column)
    return 4 * float(np.spacing(np.float32(largest)))


@tiny.OLD_NAMES
@pytest.mark.parametrize("forward", ["separate", "shared"])
@pytest.mark.parametrize("ppl_from", ["policy", "reference"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_every_road_to_the_reference_gives_one_trajectory(
    lora: bool, ppl_from: str, forward: str, tmp_path: Path
) -> None:
    shown = ("loss", "beta/mean", "margins/nats", "prompt/log_ppl")
    roads = {
        "precomputed": {"separate": False, "precompute_ref_log_probs": True},
        "live": {"separate": False, "precompute_ref_log_probs": False},
        "live, a second model": {"separate": True, "precompute_ref_log_probs": False},
        "precomputed, a second model": {"separate": True, "precompute_ref_log_probs": True},
    }
    found = {}
    for name, road in roads.items():
        trainer = trained(tmp_path / name, lora=lora, ppl_from=ppl_from, forward=forward, **road)
        found[name] = (lines(trainer, *shown), trainer.evaluate()["eval_loss"])
        if name == "precomputed":
            bound = rounding(trainer)
    assert bound < 2e-5
    wanted, wanted_eval = found["precomputed"]
    assert len(wanted) == 6
    assert abs(wanted[-1][2]) > 1e-3
    for name, (steps, eval_loss) in found.items():
        for step, wanted_step in zip(steps, wanted, strict=True):
            assert step == pytest.approx(wanted_step, abs=bound, rel=1e-6), name
        assert eval_loss == pytest.approx(wanted_eval, abs=bound), name


@tiny.OLD_NAMES
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_references_columns_do_not_depend_on_the_batch_size(lora: bool, tmp_path: Path) -> None:
    columns: list[dict[str, list[float]]] = []
    for size in (1, 4, 20):
        trainer = DPOTrainer(
            tiny.llama(),
            args=tiny.arguments(tmp_path, precompute_ref_batch_size=size),
            train_dataset=tiny.pairs(13),
            processing_class=tiny.tokenizer(),
            peft_config=LoraConfig(**LORA) if lora else None,
            beta=LearnedBeta(ppl_from="reference"),
        )
        names = ("ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl")
        columns.append({name: list(trainer.train_dataset[name]) for name in names})
    for other in columns[1:]:
        for name, values in columns[0].items():
            assert other[name] == pytest.approx(values, rel=1e-5), name


def test_a_live_reference_does_not_follow_the_policy(tmp_path: Path) -> None:
    trainer = trained(tmp_path, lora=False, separate=False, ppl_from="policy", precompute_ref_log_probs=False)
    start = tiny.qwen2()
    for name, parameter in trainer.reference.model.named_parameters():
        assert torch.equal(parameter, start.get_parameter(name)), name
        assert not parameter.requires_grad
    assert any(not torch.equal(p, start.get_parameter(n)) for n, p in trainer.model.policy.named_parameters())


@tiny.OLD_NAMES
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_recomputing_activations_changes_no_loss_and_no_gradient(lora: bool, tmp_path: Path) -> None:
    losses: list[list[list[float]]] = []
    weights: list[dict[str, torch.Tensor]] = []
    for recompute in (False, True):
        trainer = trained(
            tmp_path, lora=lora, separate=False, ppl_from="policy", gradient_checkpointing=recompute, optim="sgd"
        )
        losses.append(lines(trainer, "loss", "beta/mean", "grad_norm"))
        weights.append({name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad})
    for plain, recomputed in zip(*losses, strict=True):
        assert recomputed == pytest.approx(plain, rel=1e-6)
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-6, atol=1e-7)
