"""The section `train`: names and values of `transformers.TrainingArguments`, checked before a model is loaded."""

import dataclasses
import difflib
import enum
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.losses.settings import DEFAULTS as LOSS_SETTINGS
from betahead.runs.redaction import BLOT, names_secret
from betahead.train.arguments import ORDERS, DPOConfig
from betahead.train.field_checks import NOT_FOR_PAIRS, check_fields
from betahead.train.guard_limits import ON_WARNING, GuardLimits, check_on_warning

DEFAULTS: Mapping[str, Any] = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "optim": "adamw_torch",
    "logging_steps": 10,
}
"""What differs from transformers' own defaults, which are made for training from scratch, not for DPO."""

_UPLOAD = "upload the run's policy and its card when it is done: `betahead push RUN --to NAME`"

ELSEWHERE: Mapping[str, str] = {
    **NOT_FOR_PAIRS,
    "output_dir": "say `output` at the top",
    "seed": "say `seed` at the top",
    "run_name": "the run is named after `output`",
    "beta": "say `beta.beta`",
    "use_weighting": "say `beta.kind: wpo` with `cap: null`",
    "loss_type": "say `loss.kind`",
    "loss_weights": "say `loss.weights`",
    **{name: f"say `loss.{name}`" for name in LOSS_SETTINGS},
    "label_smoothing_factor": "say `loss.label_smoothing`",
    "max_length": "say `data.max_length`",
    "precompute_ref_log_probs": "say `reference.cache: auto`",
    "reference_cache": "say `reference.cache`",
    "forward": "say `forward.kind`",
    "forward_attention": "say `forward.attention`",
    "do_train": "choose the verb: `betahead train` trains",
    "do_eval": "choose the verb: `betahead eval` evaluates",
    "do_predict": "choose the verb: `betahead eval` evaluates",
    "remove_unused_columns": "the collator reads every column it needs",
    "local_rank": "the launcher sets it",
    "resume_from_checkpoint": "`betahead train CONFIG --resume` resumes",
    "ignore_data_skip": "`betahead train CONFIG --resume` goes on with the pair that comes next",
    "restore_callback_states_from_checkpoint": "`betahead train CONFIG --resume` restores them",
    "disable_tqdm": "the command shows its own progress",
    "group_by_length": "say `train_sampling_strategy: group_by_length`",
    "push_to_hub": _UPLOAD,
    "hub_model_id": _UPLOAD,
    "hub_strategy": _UPLOAD,
    "hub_private_repo": _UPLOAD,
    "hub_always_push": _UPLOAD,
    "hub_revision": _UPLOAD,
    "hub_token": "a token does not belong into a file; log in with `hf auth login`",
}
"""Names that other parts of the configuration, or the package, own."""

OURS = ("calibration_prompts", "disable_dropout", "guards", "head_max_grad_norm", "max_batch_tokens", "on_warning")
"""Fields that `DPOConfig` adds to those of transformers and that no other section owns."""


def checked_train_fields(given: dict[str, Any]) -> dict[str, Any]:
    """The section with `DEFAULTS` filled in, once every name and value is one that TrainingArguments takes.

    Raises:
        ConfigError: for an unknown name (with the nearest one), a name owned elsewhere, or a value of a wrong type.
    """
    hints = _hints()
    for key, value in given.items():
        if key in ELSEWHERE:
            shown = BLOT if names_secret(key) else repr(value)
            raise ConfigError(f"`{key}` must not be set in `train`, but is {shown} instead; {ELSEWHERE[key]}.")
        if key not in hints:
            near = difflib.get_close_matches(key, [name for name in hints if name not in ELSEWHERE], n=1)
            remedy = f"did you mean `{near[0]}`?" if near else "see its documentation for the names."
            raise ConfigError(f"`{key}` must be a field of transformers.TrainingArguments, but is none; {remedy}")
        _check_value(key, value, hints[key])
    check_fields(given)
    order = given.get("train_sampling_strategy", ORDERS[0])
    if order not in ORDERS:
        raise ConfigError(f"`train_sampling_strategy` must be one of {', '.join(ORDERS)}, but is {order!r} instead.")
    check_on_warning(given.get("on_warning", ON_WARNING[0]))
    GuardLimits.of(given.get("guards"))
    norm = given.get("head_max_grad_norm", 1.0)
    if norm <= 0:
        raise ConfigError(f"`head_max_grad_norm` must be above 0, but is {norm} instead.")
    return {**DEFAULTS, **given}


@cache
def _hints() -> dict[str, Any]:
    hints = get_type_hints(DPOConfig)
    names = [field.name for field in dataclasses.fields(TrainingArguments)]
    return {name: hints[name] for name in (*names, *OURS)}


def _check_value(key: str, value: Any, hint: Any) -> None:
    parts = get_args(hint) or (hint,)
    kinds = [part for part in parts if isinstance(part, type) and issubclass(part, enum.Enum)]
    if kinds and isinstance(value, str):
        choices = [str(member.value) for member in kinds[0]]
        if value not in choices:
            near = [name for name in choices if name.startswith(value)] or difflib.get_close_matches(
                value, choices, n=1
            )
            remedy = f"did you mean `{near[0]}`?" if near else f"choose one of {', '.join(choices)}."
            raise ConfigError(f"`{key}` must be a name that transformers knows, but is {value!r} instead; {remedy}")
    strict = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    try:
        TypeAdapter[Any](hint, config=strict).validate_python(value)
    except ValidationError:
        expected = " or ".join(dict.fromkeys(_word(part) for part in parts if part not in kinds))
        raise ConfigError(f"`{key}` must be {expected}, but is {value!r} instead.") from None


def _word(part: Any) -> str:
    plain = get_origin(part) or part
    words = {bool: "true or false", int: "an integer", float: "a finite number", str: "text", dict: "a mapping"}
    words |= {list: "a list", type(None): "null", Literal: "false"}
    return words.get(plain, "an object of Python")
