"""Adapters on the policy: new ones, ones that were trained before, and those without which a model cannot learn."""

from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import PreTrainedModel

from betahead.errors import ConfigError
from betahead.forward.shared import base_of
from betahead.train.arguments import DPOConfig
from betahead.train.safe_loading import check_adapter_weights

_FILE = "adapter_config.json"


def with_adapter(model: PreTrainedModel, peft_config: PeftConfig | None, args: DPOConfig) -> PreTrainedModel:
    """The model with a new adapter, the same for the same seed, ready for gradient checkpointing if that is on.

    Args:
        model: with or without an adapter.
        peft_config: the adapter to add, or None.
        args: settings.

    Raises:
        ConfigError: when the model has adapters already and another was asked for, when it has quantized weights and
            nothing else to train, or when DoRA is to turn rows of weights that have no direction.
    """
    if isinstance(model, PeftModel):
        if peft_config is not None:
            raise ConfigError("`peft_config` must be None for a model that already has an adapter; merge it first.")
    elif peft_config is None:
        if is_quantized(model):
            raise ConfigError(
                "`peft_config` must be an adapter for a model with quantized weights, which cannot be trained "
                "themselves, but is None instead; give a LoraConfig, or load the model without quantization."
            )
    else:
        if is_quantized(model):
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            model = cast("PreTrainedModel", get_peft_model(model, peft_config))
        _check_directions(model)
    if isinstance(model, PeftModel) and args.checkpoints_activations:
        model.enable_input_require_grads()
    return model


def with_saved_adapter(model: PreTrainedModel, folder: str, *, key: str) -> PeftModel:
    """The model with an adapter from a folder, to be trained further.

    Args:
        model: the one that the adapter was trained on.
        folder: holds adapter_config.json and the adapter's weights.
        key: of the setting, for the message.

    Raises:
        ConfigError: when there is no adapter, or none for this model.
    """
    try:
        if Path(folder).expanduser().is_dir():  # what comes from the Hub is asked for as safetensors first
            check_adapter_weights(Path(folder).expanduser())
        return PeftModel.from_pretrained(cast("Any", model), str(Path(folder).expanduser()), is_trainable=True)
    except Exception as error:  # whatever a broken folder or another model makes the libraries say
        sentence = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"`{key}` must be the folder of an adapter that was trained on this model, but {folder} is not "
            f"({sentence}); name the adapter's folder and the model that its adapter_config.json names."
        ) from error


def is_adapter_folder(name: str) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    folder = Path(name).expanduser()
    return (folder / _FILE).is_file() and not (folder / "config.json").is_file()


def base_named_by(folder: str) -> str:
    """The model that an adapter's folder says it was trained on.

    Raises:
        ConfigError: when it names none.
    """
    name = PeftConfig.from_pretrained(str(Path(folder).expanduser())).base_model_name_or_path
    if not name:
        raise ConfigError(
            f"`model` must be a model or an adapter that names its base model, but {folder} names none; load the base "
            "and the adapter with PEFT, with is_trainable=True, and give the model."
        )
    return str(name)


def _check_directions(model: nn.Module) -> None:
    for name, length in model.named_parameters():
        if "lora_magnitude_vector" in name and bool((length == 0).any()):
            layer = name.partition(".lora_magnitude_vector")[0].rpartition(".")[2]
            raise ConfigError(
                f"`use_dora` must be for layers without rows of zeros, which have no direction, but `{layer}` has "
                f"{int((length == 0).sum())} of them instead; leave the layer out of `target_modules`, or use LoRA."
            )


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether a model's weights are quantized, so that only adapters on them learn."""
    return bool(getattr(base_of(model), "is_quantized", False))
