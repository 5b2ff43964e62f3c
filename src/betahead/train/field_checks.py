"""Fields of `transformers.TrainingArguments` that preference pairs have no use for, and values that make no sense.

One table for `DPOConfig` and for the section `train` of a configuration: what is accepted has an effect.
"""

import dataclasses
import inspect
import multiprocessing
from collections.abc import Mapping
from typing import Any, cast

from torch.utils.checkpoint import checkpoint
from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations
from transformers.training_args import trainer_log_levels

from betahead.errors import ConfigError

NOT_FOR_PAIRS: Mapping[str, str] = {
    "label_smoothing_factor": "say `label_smoothing`",
    "label_names": "preference pairs have no labels",
    "length_column_name": "lengths are counted from the tokens",
    "include_for_metrics": "there is no `compute_metrics` that would read it",
    "batch_eval_metrics": "there is no `compute_metrics` that would read it",
    "eval_do_concat_batches": "pairs have no predictions to join",
    "use_liger_kernel": "its fused loss is not the preference loss",
    "liger_kernel_config": "its fused loss is not the preference loss",
    "neftune_noise_alpha": "noise in the embeddings would make policy and reference differ from the first step",
    "bf16_full_eval": "it would cast the beta head, which must stay float32; `bf16` evaluates in mixed precision too",
    "fp16_full_eval": "it would cast the beta head, which must stay float32; `fp16` evaluates in mixed precision too",
}
"""Names that would be accepted and ignored, or that would break the method, each with what to do instead."""

_LEAST: Mapping[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "warmup_steps": 0,
    "calibration_prompts": 1,
    "max_batch_tokens": 1,
}
"""The smallest value that makes sense, where transformers takes any."""

_KWARGS = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")


def check_fields(given: Mapping[str, Any]) -> None:
    """Refuse values that make no sense, whoever gave them; names that are not there are not looked at.

    Raises:
        ConfigError: for the first of them, by its bare name.
    """
    for key, least in _LEAST.items():
        value = given.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= least):
            raise ConfigError(f"`{key}` must be at least {least}, but is {value!r} instead.")
    if given.get("bf16") and given.get("fp16"):
        raise ConfigError("`fp16` must be left out with `bf16`, but both are true; a step computes in one precision.")
    _check_reporters(given.get("report_to"))
    steps, epochs = given.get("max_steps", -1), given.get("num_train_epochs", 1)
    if steps != -1 and not steps >= 1:
        raise ConfigError(
            f"`max_steps` must be at least 1, or -1 for all of `num_train_epochs`, but is {steps} instead."
        )
    if steps == -1 and not epochs > 0:
        raise ConfigError(f"`num_train_epochs` must be above 0 without `max_steps`, but is {epochs} instead.")
    _check_names(given)


def check_not_for_pairs(args: TrainingArguments) -> None:
    """Refuse a field of the table that is not at its default.

    Raises:
        ConfigError: with what to do instead.
    """
    for field in dataclasses.fields(TrainingArguments):
        if field.name not in NOT_FOR_PAIRS:
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        value = getattr(args, field.name)
        if value != default:
            raise ConfigError(
                f"`{field.name}` must be left out with preference pairs, but is {value!r} instead; "
                f"{NOT_FOR_PAIRS[field.name]}."
            )


def _check_names(given: Mapping[str, Any]) -> None:
    for key in ("log_level", "log_level_replica"):
        level = given.get(key)
        if level is not None and level not in trainer_log_levels:
            raise ConfigError(f"`{key}` must be one of {', '.join(trainer_log_levels)}, but is {level!r} instead.")
    context, methods = given.get("dataloader_multiprocessing_context"), multiprocessing.get_all_start_methods()
    if context is not None and context not in methods:
        raise ConfigError(
            f"`dataloader_multiprocessing_context` must be one of {', '.join(methods)} on this machine, but is "
            f"{context!r} instead."
        )
    options = given.get("optim_args")
    if isinstance(options, str) and not all(len(part.split("=")) == 2 for part in options.split(",")):
        raise ConfigError(f"`optim_args` must be name=value, more of them after commas, but is {options!r} instead.")
    known = {*inspect.signature(checkpoint).parameters, "preserve_rng_state"} - {"function", "args", "kwargs"}
    for key in _KWARGS:
        kwargs = given.get(key)
        unknown = sorted(set(cast("dict[str, Any]", kwargs)) - known) if isinstance(kwargs, dict) else []
        if unknown:
            raise ConfigError(
                f"`{key}` must hold keywords of torch.utils.checkpoint ({', '.join(sorted(known))}), but has "
                f"{unknown[0]!r} instead."
            )


def _check_reporters(given: Any) -> None:
    """A logger without its package is found before anything is loaded."""
    names = [given] if isinstance(given, str) else list(given or ())
    known, there = set(INTEGRATION_TO_CALLBACK), set(get_available_reporting_integrations())
    for name in names:
        if name in {"none", "all"} or name in there:
            continue
        if name not in known:
            raise ConfigError(
                f"`report_to` must be none, all or of {', '.join(sorted(known))}, but is {name!r} instead."
            )
        raise ConfigError(f"`report_to` must name loggers that are installed, but {name} is not; install its package.")
