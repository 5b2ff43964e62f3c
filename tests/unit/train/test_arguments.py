import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import trl

from betahead.errors import ConfigError
from betahead.losses.settings import DEFAULTS
from betahead.train.arguments import DPOConfig

MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"loss_type": []}, "`loss.kind` must be the name of a loss or a list of names, but is [] instead."),
    (
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]},
        "`loss.weights` must be a list of one positive number for each of sigmoid, sft, but is [1.0] instead.",
    ),
    (
        {"loss_type": ["sigmoid", "sft"], "max_batch_tokens": 512},
        "`max_batch_tokens` must be None with `loss.kind` sft, which acts on all pairs of a pass together, but is 512 "
        "instead; choose a smaller `per_device_train_batch_size`.",
    ),
    (
        {"loss_type": "ipo", "label_smoothing": 0.1},
        "`loss.label_smoothing` must be 0 with `loss.kind` ipo, but is 0.1 instead; use sigmoid or robust to smooth "
        "labels.",
    ),
    ({"max_length": 1}, "`max_length` must be a whole number of at least 2 or None, but is 1 instead."),
    ({"head_max_grad_norm": 0.0}, "`head_max_grad_norm` must be a positive number, but is 0.0 instead."),
    ({"calibration_prompts": 0}, "`calibration_prompts` must be a whole number of at least 1, but is 0 instead."),
    ({"max_batch_tokens": 0}, "`max_batch_tokens` must be a whole number of at least 1 or None, but is 0 instead."),
    ({"max_batch_tokens": -5}, "`max_batch_tokens` must be a whole number of at least 1 or None, but is -5 instead."),
    (
        {"max_batch_tokens": "4k"},
        "`max_batch_tokens` must be a whole number of at least 1 or None, but is '4k' instead.",
    ),
    (
        {"max_batch_tokens": 4096, "fsdp": "full_shard"},
        "`max_batch_tokens` must be None with FSDP or DeepSpeed, but is 4096 instead; their ranks must run the same "
        "number of passes, so choose a smaller `per_device_train_batch_size`.",
    ),
    (
        {"train_sampling_strategy": "batch_rebalance"},
        "`train_sampling_strategy` must be one of random, sequential, group_by_length, but is 'batch_rebalance' "
        "instead.",
    ),
    (
        {"length_column_name": "tokens"},
        "`length_column_name` must be left out with preference pairs, but is 'tokens' instead; lengths are counted "
        "from the tokens.",
    ),
    (
        {"reference_cache": "live"},
        "`reference_cache` must be `auto`, a folder or None, but is 'live' instead; a reference is scored at every "
        "step with precompute_ref_log_probs=False.",
    ),
    (
        {"reference_cache": True},
        "`reference_cache` must be `auto`, a folder or None, but is True instead; a reference is scored at every step "
        "with precompute_ref_log_probs=False.",
    ),
    (
        {"remove_unused_columns": True},
        "`remove_unused_columns` must be False, because the collator reads its columns by name.",
    ),
]


@pytest.mark.parametrize(("settings", "message"), MESSAGES, ids=[str(settings) for settings, _ in MESSAGES])
def test_a_setting_that_cannot_be_used_is_refused_in_one_sentence(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        tiny.arguments(tmp_path, **settings)


def test_a_list_of_one_loss_is_that_loss_as_in_trl(tmp_path: Path) -> None:
    assert tiny.arguments(tmp_path, loss_type=["hinge"]).loss_type == "hinge"
    assert tiny.arguments(tmp_path, loss_type=["sigmoid", "sft"]).loss_type == ["sigmoid", "sft"]


def test_the_objective_has_the_losses_weights_and_settings_of_the_fields(tmp_path: Path) -> None:
    given = {"label_smoothing": 0.1, "ld_alpha": 0.5, "f_divergence_type": "forward_kl"}
    args = tiny.arguments(tmp_path, loss_type=["robust", "sft"], loss_weights=[1.0, 0.2], **given)
    assert (args.objective.kinds, args.objective.weights) == (("robust", "sft"), (1.0, 0.2))
    assert {name: getattr(args.objective.settings, name) for name in given} == given


def test_the_defaults_of_the_settings_are_those_of_the_losses(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path)
    assert {name: getattr(args, name) for name in DEFAULTS} == DEFAULTS


def test_every_field_that_is_not_of_transformers_or_ours_is_trls() -> None:
    ours = {
        "layout",
        "prompt_template",
        "max_dropped",
        "head_max_grad_norm",
        "calibration_prompts",
        "max_batch_tokens",
        "reference_cache",
        "forward",
        "forward_attention",
        "simpo_gamma",
        "dr_dpo_beta",
        "guards",
        "on_warning",
    }
    transformers_own = set(DPOConfig.__mro__[1].__dataclass_fields__)
    added = set(DPOConfig.__dataclass_fields__) - transformers_own
    assert ours <= added
    assert added - ours <= set(trl.DPOConfig.__dataclass_fields__)


def test_a_trl_field_that_does_not_exist_here_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sync_ref_model"):
        tiny.arguments(tmp_path, sync_ref_model=True)


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_checkpointing_is_understood_by_both_its_names(name: str, tmp_path: Path) -> None:
    assert tiny.arguments(tmp_path, **{name: True}).checkpoints_activations
    assert not tiny.arguments(tmp_path, **{name: False}).checkpoints_activations


def test_the_defaults_stay_off_the_network_and_show_broken_losses() -> None:
    args = DPOConfig(output_dir="unused")
    assert args.report_to in ([], "none", ["none"])
    assert args.logging_nan_inf_filter is False
    assert args.precompute_ref_log_probs is True
    assert args.trust_remote_code is False
    assert args.beta is None


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_a_launcher_that_shards_is_noticed_before_it_waits_for_ever(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "true")
    with pytest.raises(
        ConfigError, match=r"^`max_batch_tokens` must be None with FSDP or DeepSpeed, but is 64 instead;"
    ):
        tiny.arguments(tmp_path, max_batch_tokens=64)


def test_batches_go_to_the_device_without_waiting_unless_said_otherwise(tmp_path: Path) -> None:
    def non_blocking(**settings: Any) -> Any:
        args: Any = tiny.arguments(tmp_path, **settings)
        return args.accelerator_config.non_blocking

    pinned = {"use_cpu": False, "dataloader_pin_memory": True}
    assert non_blocking(**pinned) is True
    assert non_blocking(use_cpu=False, dataloader_pin_memory=False) is False
    assert non_blocking(**pinned, accelerator_config={"non_blocking": False}) is False
    # On a CPU nothing is pinned, and transformers would say at every start that it should be.
    assert non_blocking(use_cpu=True, dataloader_pin_memory=True) is False
