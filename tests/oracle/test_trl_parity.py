"""Losses, gradients and trajectories of the fixed β, against TRL's DPOTrainer on the same pairs."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trl
from transformers import PreTrainedModel

from betahead.train.trainer import DPOTrainer

# TRL 1.16.0 sets and reads names that transformers 5.23 has deprecated.
pytestmark = pytest.mark.filterwarnings(r"ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")

BETA = 0.4
LOSSES = {"sigmoid": 0.0, "hinge": 0.0, "ipo": 0.0, "robust": 0.2}


def gradients_of(policy: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


def settings(folder: Path, loss: str) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "max_steps": 10,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "seed": 3,
        "beta": BETA,
        "max_length": None,
        "precompute_ref_log_probs": False,
        "loss_type": [loss],
        "label_smoothing": LOSSES[loss],
    }


def theirs(folder: Path, policy: PreTrainedModel, reference: PreTrainedModel, loss: str, **changes: Any) -> Any:
    # bf16 and gradient checkpointing are TRL's defaults.
    args = trl.DPOConfig(**(settings(folder, loss) | changes), bf16=False, gradient_checkpointing=False)
    return trl.DPOTrainer(policy, reference, args, train_dataset=tiny.pairs(20), processing_class=tiny.tokenizer())


def ours(folder: Path, policy: PreTrainedModel, reference: PreTrainedModel, loss: str, **changes: Any) -> DPOTrainer:
    # The plain road pads as TRL does; that the shared one gives the same numbers is a law of its own.
    args = tiny.arguments(folder, **(settings(folder, loss) | changes), forward="separate")
    return DPOTrainer(policy, reference, args, train_dataset=tiny.pairs(20), processing_class=tiny.tokenizer())


def assert_close_to_largest(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert (found[name] - tensor).abs().max() <= 1e-5 * tensor.abs().max(), name


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_losses_and_gradients_equal_trls_at_every_one_of_ten_steps(family: str, loss: str, tmp_path: Path) -> None:
    make = tiny.POLICIES[family]
    peer = theirs(tmp_path / "trl", make(0), make(1), loss)
    mine = ours(tmp_path / "betahead", make(0), make(1), loss)
    optimizer = torch.optim.SGD(mine.model.parameters(), lr=0.03)
    moved = 0
    for start in range(0, 20, 2):
        rows = range(start, start + 2)
        wanted_rows, found_rows = ([side.train_dataset[i] for i in rows] for side in (peer, mine))
        assert [row["chosen_ids"] for row in found_rows] == [row["chosen_ids"] for row in wanted_rows]
        peer.model.zero_grad()
        optimizer.zero_grad()
        wanted = peer.compute_loss(peer.model, peer.data_collator(wanted_rows))
        found = mine.compute_loss(mine.model, dict(mine.collate(found_rows)))
        wanted.backward()
        found.backward()
        assert abs(found.item() - wanted.item()) <= 1e-5 * abs(wanted.item())
        gradients = gradients_of(mine.model.policy)
        assert_close_to_largest(gradients, gradients_of(peer.model))
        moved += any(bool(gradient.any()) for gradient in gradients.values())
        optimizer.step()
        # The same weights at every step: what is compared is the step, not how rounding grows along a path.
        peer.model.load_state_dict(mine.model.policy.state_dict())
    assert moved >= 5


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_ten_steps_of_sgd_follow_trls_trajectory(family: str, loss: str, tmp_path: Path) -> None:
    make = tiny.POLICIES[family]
    peer = theirs(tmp_path / "trl", make(0), make(1), loss)
    mine = ours(tmp_path / "betahead", make(0), make(1), loss)
    peer.train()
    mine.train()

    wanted = [line["loss"] for line in peer.state.log_history if "loss" in line]
    found = [line["loss"] for line in mine.state.log_history if "loss" in line]
    assert len(found) == len(wanted) == 10
    assert len(set(wanted)) == 10
    assert found == pytest.approx(wanted, rel=0, abs=1e-5 * max(map(abs, wanted)))
    for name, weight in peer.model.named_parameters():
        trained = mine.model.policy.get_parameter(name)
        assert (trained - weight).abs().max() <= 1e-5 * weight.abs().max(), name
        assert not torch.equal(weight, make(0).get_parameter(name)), name


SETTINGS: dict[str, dict[str, Any]] = {
    "long answers desensitized": {"ld_alpha": 0.4},
    "several losses": {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
    "another divergence": {"f_divergence_type": "js_divergence"},
    "on the batch": {"loss_type": ["aot"], "per_device_train_batch_size": 4},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_trajectory_with_other_settings_of_the_loss_is_trls(name: str, tmp_path: Path) -> None:
    changes = SETTINGS[name]
    lines: list[list[dict[str, float]]] = []
    weights: list[dict[str, torch.Tensor]] = []
    for side, folder in ((theirs, tmp_path / "trl"), (ours, tmp_path / "betahead")):
        trainer = side(folder, tiny.qwen2(0), tiny.qwen2(1), "sigmoid", **({"max_steps": 5} | changes))
        trainer.train()
        policy = getattr(trainer.model, "policy", trainer.model)
        lines.append([line for line in trainer.state.log_history if "loss" in line])
        weights.append({name: weight.detach() for name, weight in policy.named_parameters()})
    for wanted, found in zip(*lines, strict=True):
        for key in ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/margins"):
            assert found[key] == pytest.approx(wanted[key], rel=1e-4, abs=1e-5), key
    for key, weight in weights[0].items():
        assert (weights[1][key] - weight).abs().max() <= 1e-5 * weight.abs().max(), key


def test_the_reference_computed_beforehand_equals_trls(tmp_path: Path) -> None:
    peer = theirs(tmp_path / "trl", tiny.qwen2(0), tiny.qwen2(1), "sigmoid")
    mine = ours(tmp_path / "betahead", tiny.qwen2(0), tiny.qwen2(1), "sigmoid")
    mine.args.precompute_ref_log_probs = True
    scored = mine._with_reference(mine.train_dataset)
    for start in range(0, 20, 4):
        rows = [peer.train_dataset[i] for i in range(start, start + 4)]
        chosen, rejected = peer.compute_ref_log_probs(peer.ref_model, peer.data_collator(rows))
        assert scored["ref_chosen_logps"][start : start + 4] == pytest.approx(chosen.tolist(), rel=1e-5)
        assert scored["ref_rejected_logps"][start : start + 4] == pytest.approx(rejected.tolist(), rel=1e-5)


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_metrics_that_share_a_name_with_trl_share_its_value(loss: str, tmp_path: Path) -> None:
    peer = theirs(tmp_path / "trl", tiny.llama(0), tiny.llama(1), loss)
    mine = ours(tmp_path / "betahead", tiny.llama(0), tiny.llama(1), loss)
    peer.train()
    mine.train()
    names = ["chosen", "rejected", "accuracies", "margins"]
    for theirs_line, my_line in zip(peer.state.log_history[:-1], mine.state.log_history[:-1], strict=True):
        for name in [f"rewards/{name}" for name in names] + ["logps/chosen", "logps/rejected", "grad_norm"]:
            assert my_line[name] == pytest.approx(theirs_line[name], rel=1e-4, abs=1e-5), name
