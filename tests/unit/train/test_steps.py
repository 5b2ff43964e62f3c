import re
from pathlib import Path
from typing import Any

import pytest
import tiny

from betahead.errors import ConfigError
from betahead.train.steps import check_schedule, steps_of
from betahead.train.trainer import DPOTrainer


@pytest.mark.parametrize(
    ("pairs", "changes", "steps"),
    [
        (7, {}, 4),
        (7, {"dataloader_drop_last": True}, 3),
        (7, {"num_train_epochs": 2}, 8),
        (7, {"gradient_accumulation_steps": 3}, 2),
        (7, {"max_steps": 9}, 9),
    ],
)
def test_steps_are_counted_as_the_trainer_takes_them(
    pairs: int, changes: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    args = tiny.arguments(tmp_path, **({"max_steps": -1, "num_train_epochs": 1} | changes))
    assert steps_of(pairs, args) == steps
    trainer = DPOTrainer(
        tiny.qwen2(), args=args, train_dataset=tiny.pairs(pairs), processing_class=tiny.tokenizer(), beta=0.1
    )
    assert len(trainer.train_dataset) == pairs
    trainer.train()
    assert trainer.state.global_step == steps


def test_pairs_that_fill_no_batch_are_refused_before_a_step_that_never_comes(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, dataloader_drop_last=True, per_device_train_batch_size=8)
    trainer = DPOTrainer(tiny.qwen2(), args=args, train_dataset=tiny.pairs(4), processing_class=tiny.tokenizer())
    wanted = (
        "`train.per_device_train_batch_size` must be at most the number of pairs on every device with "
        "`train.dataloader_drop_last`, but 4 pairs fill no batch of 8, so that no step would be taken; lower it or "
        "keep the last batch."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        trainer.train()


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("linear", None),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
        ("warmup_stable_decay", {"num_decay_steps": 3}),
        ("inverse_sqrt", {"timescale": 5}),
        ("reduce_lr_on_plateau", None),
        ("constant_with_warmup", None),
    ],
)
def test_a_schedule_that_can_be_built_passes(name: str, kwargs: dict[str, Any] | None, tmp_path: Path) -> None:
    changes = {"eval_strategy": "steps"} if "plateau" in name else {}
    args = tiny.arguments(tmp_path, lr_scheduler_type=name, lr_scheduler_kwargs=kwargs, warmup_steps=2, **changes)
    check_schedule(args, 10)


def test_a_schedule_that_cannot_is_named_with_what_it_was_given(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, lr_scheduler_type="cosine", lr_scheduler_kwargs={"foo": 1})
    with pytest.raises(ConfigError) as caught:
        check_schedule(args, 10)
    said = str(caught.value)
    assert said.startswith("`train.lr_scheduler_kwargs` must fit the schedule cosine, but are {'foo': 1} instead (")
    assert said.endswith("see transformers.get_scheduler for its keywords.")
