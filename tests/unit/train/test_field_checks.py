import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.runs.train_fields import ELSEWHERE
from betahead.train.field_checks import NOT_FOR_PAIRS

VALUES: dict[str, Any] = {
    "label_smoothing_factor": 0.1,
    "label_names": ["labels"],
    "length_column_name": "long",
    "include_for_metrics": ["inputs"],
    "batch_eval_metrics": True,
    "eval_do_concat_batches": False,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "neftune_noise_alpha": 5.0,
    "bf16_full_eval": True,
    "fp16_full_eval": True,
}


@pytest.mark.parametrize("name", NOT_FOR_PAIRS)
def test_what_pairs_have_no_use_for_is_refused_in_python_and_in_a_configuration(name: str, tmp_path: Path) -> None:
    wanted = f"`{name}` must be left out with preference pairs, but is {VALUES[name]!r} instead; {NOT_FOR_PAIRS[name]}."
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        tiny.arguments(tmp_path, **{name: VALUES[name]})
    assert name in ELSEWHERE
    assert name in {field.name for field in dataclasses.fields(TrainingArguments)}


MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` must be at least 1, but is 0 instead."),
    ({"per_device_train_batch_size": "2"}, "`per_device_train_batch_size` must be at least 1, but is '2' instead."),
    ({"learning_rate": float("nan")}, "`learning_rate` must be at least 0, but is nan instead."),
    ({"max_steps": 0}, "`max_steps` must be at least 1, or -1 for all of `num_train_epochs`, but is 0 instead."),
    ({"max_steps": -5}, "`max_steps` must be at least 1, or -1 for all of `num_train_epochs`, but is -5 instead."),
    (
        {"max_steps": -1, "num_train_epochs": 0},
        "`num_train_epochs` must be above 0 without `max_steps`, but is 0 instead.",
    ),
    ({"optim_args": "foo"}, "`optim_args` must be name=value, more of them after commas, but is 'foo' instead."),
    ({"disable_dropout": "no"}, "`disable_dropout` must be True or False, but is 'no' instead."),
    ({"max_dropped": "a"}, "`max_dropped` must be a share of the rows, in [0, 1], but is 'a' instead."),
    (
        {"dataset_num_proc": "2"},
        "`dataset_num_proc` must be a whole number of at least 1 or None, but is '2' instead.",
    ),
    (
        {"gradient_checkpointing_kwargs": {"x": 1}},
        "`gradient_checkpointing_kwargs` must hold keywords of torch.utils.checkpoint (",
    ),
    ({"log_level": "nope"}, "`log_level` must be one of detail, debug, info, warning, error, critical, passive, but"),
    ({"dataloader_multiprocessing_context": "nope"}, "`dataloader_multiprocessing_context` must be one of "),
]


@pytest.mark.parametrize(("settings", "message"), MESSAGES, ids=[str(settings) for settings, _ in MESSAGES])
def test_a_value_that_makes_no_sense_is_one_sentence(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}") as caught:
        tiny.arguments(tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_what_makes_sense_passes(tmp_path: Path) -> None:
    tiny.arguments(
        tmp_path,
        optim_args="a=1, b=2",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        log_level="info",
        max_steps=-1,
    )
