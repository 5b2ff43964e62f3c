"""WPO's weights, against TRL's `use_weighting` on the same pairs: losses and gradients."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import trl

from betahead.train.trainer import DPOTrainer
from betahead.types import bundled

# TRL 1.16.0 sets and reads names that transformers 5.23 has deprecated.
pytestmark = pytest.mark.filterwarnings(r"ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")


def settings(folder: Path, loss: str) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "max_length": None,
        "precompute_ref_log_probs": False,
        "loss_type": [loss],
    }


@pytest.mark.parametrize("road", ["separate", "shared"])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_losses_and_gradients_are_trls(family: str, loss: str, road: str, tmp_path: Path) -> None:
    make, pairs = tiny.POLICIES[family], tiny.pairs(4)
    theirs = trl.DPOTrainer(
        make(0),
        make(1),
        trl.DPOConfig(
            **settings(tmp_path / "trl", loss), beta=0.4, use_weighting=True, bf16=False, gradient_checkpointing=False
        ),
        train_dataset=pairs,
        processing_class=tiny.tokenizer(),
    )
    mine = DPOTrainer(
        make(0),
        make(1),
        tiny.arguments(
            tmp_path / "betahead",
            **settings(tmp_path / "betahead", loss),
            beta=0.4,
            use_weighting=True,
            forward=road,
        ),
        train_dataset=pairs,
        processing_class=tiny.tokenizer(),
    )
    assert mine.rule.settings == {"beta": 0.4, "cap": None}
    wanted = theirs.compute_loss(theirs.model, theirs.data_collator([theirs.train_dataset[i] for i in range(4)]))
    found = mine.compute_loss(mine.model, dict(mine.collate([mine.train_dataset[i] for i in range(4)])))
    wanted.backward()
    found.backward()  # pyright: ignore
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)  # pyright: ignore
    for name, parameter in theirs.model.named_parameters():
        gradient = mine.model.policy.get_parameter(name).grad
        assert gradient is not None and parameter.grad is not None
        assert (gradient - parameter.grad).abs().max() <= 2e-5 * parameter.grad.abs().max(), name
    batch = dict(mine.collate([mine.train_dataset[i] for i in range(4)]))
    scores = mine.reference.scores(bundled(batch))
    policy, features = mine.model.scored(bundled(batch | scores.columns()))
    weights = mine.model.shaped(policy, features, scores)[1].weight
    assert weights.max() / weights.min() > 1.5
