"""The section `train`: names and values of transformers.TrainingArguments."""

import dataclasses

import pytest
from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.runs.train_fields import DEFAULTS, ELSEWHERE, OURS, checked_train_fields
from betahead.train.arguments import DPOConfig

FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments)}


def test_defaults_are_fields_that_transformers_accepts(tmp_path):
    assert checked_train_fields({}) == dict(DEFAULTS)
    TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **DEFAULTS)


def test_given_values_replace_defaults():
    assert checked_train_fields({"learning_rate": 5e-7})["learning_rate"] == 5e-7


def test_every_default_of_transformers_is_accepted():
    for name, field in FIELDS.items():
        if name not in ELSEWHERE and field.default is not dataclasses.MISSING:
            assert checked_train_fields({name: field.default})[name] == field.default


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_is_owned_elsewhere_says_where(name):
    with pytest.raises(ConfigError) as caught:
        checked_train_fields({name: "x"})
    shown = "<redacted>" if name == "hub_token" else "'x'"
    assert str(caught.value) == f"`{name}` must not be set in `train`, but is {shown} instead; {ELSEWHERE[name]}."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learning_rat": 1.0},
            "`learning_rat` must be a field of transformers.TrainingArguments, but is none; "
            "did you mean `learning_rate`?",
        ),
        (
            {"qqqqqqq": 1.0},
            "`qqqqqqq` must be a field of transformers.TrainingArguments, but is none; "
            "see its documentation for the names.",
        ),
        ({"learning_rate": "5e-7"}, "`learning_rate` must be a finite number, but is '5e-7' instead."),
        ({"learning_rate": float("inf")}, "`learning_rate` must be a finite number, but is inf instead."),
        ({"max_steps": 1.5}, "`max_steps` must be an integer, but is 1.5 instead."),
        ({"max_steps": True}, "`max_steps` must be an integer, but is True instead."),
        ({"bf16": 1}, "`bf16` must be true or false, but is 1 instead."),
        ({"fsdp_config": 3}, "`fsdp_config` must be a mapping or text or null, but is 3 instead."),
        ({"optim": 3}, "`optim` must be text, but is 3 instead."),
        (
            {"lr_scheduler_type": "cosin"},
            "`lr_scheduler_type` must be a name that transformers knows, but is 'cosin' instead; "
            "did you mean `cosine`?",
        ),
        (
            {"save_strategy": "qqq"},
            "`save_strategy` must be a name that transformers knows, but is 'qqq' instead; "
            "choose one of no, steps, epoch, best.",
        ),
        ({"max_batch_tokens": 0}, "`max_batch_tokens` must be at least 1, but is 0 instead."),
        ({"max_batch_tokens": -1}, "`max_batch_tokens` must be at least 1, but is -1 instead."),
        ({"max_batch_tokens": "4k"}, "`max_batch_tokens` must be an integer or null, but is '4k' instead."),
        ({"calibration_prompts": 0}, "`calibration_prompts` must be at least 1, but is 0 instead."),
        ({"calibration_prompts": None}, "`calibration_prompts` must be an integer, but is None instead."),
        ({"disable_dropout": "no"}, "`disable_dropout` must be true or false, but is 'no' instead."),
        ({"head_max_grad_norm": 0}, "`head_max_grad_norm` must be above 0, but is 0 instead."),
        ({"head_max_grad_norm": "x"}, "`head_max_grad_norm` must be a finite number, but is 'x' instead."),
        (
            {"train_sampling_strategy": "batch_rebalance"},
            "`train_sampling_strategy` must be one of random, sequential, group_by_length, but is 'batch_rebalance' "
            "instead.",
        ),
        (
            {"max_batch_token": 5},
            "`max_batch_token` must be a field of transformers.TrainingArguments, but is none; "
            "did you mean `max_batch_tokens`?",
        ),
    ],
)
def test_a_wrong_name_or_value_is_one_sentence(given, message):
    with pytest.raises(ConfigError) as caught:
        checked_train_fields(given)
    assert str(caught.value) == message


def test_the_fields_of_our_own_that_no_other_section_holds_reach_the_training_arguments(tmp_path):
    given = {
        "calibration_prompts": 7,
        "disable_dropout": False,
        "head_max_grad_norm": 0.5,
        "max_batch_tokens": 4096,
        "on_warning": "stop",
        "guards": {"patience": 3},
        "train_sampling_strategy": "group_by_length",
    }
    checked = checked_train_fields(given)
    args = DPOConfig(output_dir=str(tmp_path), use_cpu=True, **checked)
    assert {name: getattr(args, name) for name in given} == given
    assert set(OURS) == given.keys() - {"train_sampling_strategy"}


def test_no_field_of_ours_is_forgotten():
    added = {field.name for field in dataclasses.fields(DPOConfig)} - FIELDS.keys()
    elsewhere = {
        "dataset_num_proc",
        "layout",
        "max_dropped",
        "model_init_kwargs",
        "precompute_ref_batch_size",
        "prompt_template",
        "trust_remote_code",
    }
    assert added == set(OURS) | (added & ELSEWHERE.keys()) | elsewhere
