"""A training that was stopped and resumed is the uninterrupted one, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import resumed
import tiny
import torch
from peft import LoraConfig
from readings import quick
from transformers import EarlyStoppingCallback

from betahead.beta.rule import BetaRule
from betahead.beta.table import RULES
from betahead.losses.table import LOSSES
from betahead.train.trainer import DPOTrainer

# Every log line sums three steps, and the checkpoint lies in the middle of one and of an epoch of six steps.
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 8,
    "logging_steps": 3,
    "save_strategy": "steps",
    "save_steps": 4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "calibration_prompts": 4,
}


def trainer_of(
    folder: Path, rule: BetaRule, *, lora: bool = False, callbacks: Any = None, **changes: Any
) -> DPOTrainer:
    torch.manual_seed(0)
    live = {"precompute_ref_log_probs": False} if rule.kind == "epsilon_dpo" else {}
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.2)
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **(SETTINGS | live | changes)),
        train_dataset=resumed.pairs(22),
        eval_dataset=resumed.pairs(5, seed=3),
        processing_class=tiny.tokenizer(),
        beta=rule,
        callbacks=[resumed.AtTheEnd(), *(callbacks or ())],
        peft_config=adapter if lora else None,
    )


def check_resumed(
    folder: Path, rule: Callable[[], BetaRule], *, at: int = 4, keywords: Callable[[], dict[str, Any]] = dict
) -> DPOTrainer:
    """Resuming at a step gives what going on gave; the trainer that went on."""
    whole = trainer_of(folder / "whole", rule(), **keywords())
    whole.train()
    wanted = resumed.record(whole)
    again = trainer_of(folder / "again", rule(), **keywords())
    # Whatever happened since the process began must not matter.
    torch.rand(7)
    again.train(resume_from_checkpoint=str(folder / "whole" / f"checkpoint-{at}"))
    assert resumed.differences(wanted, resumed.record(again)) == []
    return whole


def test_every_rule_is_among_those_that_are_resumed() -> None:
    assert {name.partition("/")[0] for name in resumed.RULES} == set(RULES)


@pytest.mark.parametrize("name", quick(resumed.RULES, "learned/samples", "learned/heldout", "gamma_po"))
def test_a_rule_goes_on_where_it_was(name: str, tmp_path: Path) -> None:
    whole = check_resumed(tmp_path, resumed.RULES[name])
    rows = [row for row in whole.state.log_history if "loss" in row]
    assert [row["step"] for row in rows] == [3, 6]


WAYS: dict[str, dict[str, Any]] = {
    "in the second epoch": {"max_steps": 10, "save_steps": 8, "at": 8},
    "between two epochs": {"max_steps": 8, "save_steps": 6, "at": 6},
    "between two epochs with an evaluation": {"max_steps": 8, "save_steps": 6, "at": 6, "eval_strategy": "epoch"},
    "between two epochs with a log line": {"max_steps": 8, "save_steps": 6, "at": 6, "logging_strategy": "epoch"},
    "after the last step with an evaluation": {"at": 8, "eval_strategy": "epoch", "logging_strategy": "epoch"},
    "cut into passes and grouped by length": {
        "max_batch_tokens": 24,
        "train_sampling_strategy": "group_by_length",
        "max_steps": 10,
        "save_steps": 8,
        "at": 8,
    },
    "with an adapter and its dropout": {"lora": True, "disable_dropout": False},
    "with a live reference": {"precompute_ref_log_probs": False},
    "with a reference cache that fills": {"precompute_ref_log_probs": False, "cache": True},
    "padded": {"forward": "separate"},
    "with evaluations": {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True},
    "with workers": {"dataloader_num_workers": 1},
    "by the last checkpoint": {"at": 8},
    "with momentum": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "with Adafactor": {"optim": "adafactor"},
}


@pytest.mark.parametrize(
    "way",
    quick(
        WAYS,
        "between two epochs with an evaluation",
        "cut into passes and grouped by length",
        "with an adapter and its dropout",
        "with a reference cache that fills",
        "by the last checkpoint",
    ),
)
@tiny.OLD_NAMES
def test_a_way_of_training_goes_on(way: str, tmp_path: Path) -> None:
    changes = dict(WAYS[way])
    at = changes.pop("at", 4)
    if changes.pop("cache", False):
        changes["reference_cache"] = str(tmp_path / "cache")
    check_resumed(tmp_path, resumed.RULES["learned/perspective"], at=at, keywords=lambda: dict(changes))


@pytest.mark.parametrize("kind", [name for name, loss in LOSSES.items() if loss.has_shift])
def test_the_threshold_of_a_loss_goes_on(kind: str, tmp_path: Path) -> None:
    check_resumed(tmp_path, resumed.RULES["fixed"], keywords=lambda: {"loss_type": kind})


def test_the_patience_of_early_stopping_goes_on(tmp_path: Path) -> None:
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "metric_for_best_model": "loss",
        "learning_rate": 0.0,  # so that no evaluation is better than the first
        "load_best_model_at_end": True,
        "max_steps": 12,
    }
    whole = check_resumed(
        tmp_path,
        resumed.RULES["fixed"],
        at=2,
        keywords=lambda: settings | {"callbacks": [EarlyStoppingCallback(early_stopping_patience=3)]},
    )
    assert whole.state.global_step == 4
