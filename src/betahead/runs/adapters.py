"""What `model.adapter` comes to in a run: the adapter, quantized weights under it, and a whole model at the end."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from betahead.durable import sync_tree
from betahead.errors import ConfigError
from betahead.forward.model import Policy
from betahead.runs.config import Config
from betahead.runs.folder import RunFolder
from betahead.runs.model_section import LoraAdapter, ModelSection, QLoraAdapter, SavedAdapter
from betahead.train.safe_loading import SAFETENSORS

_ADAPTERS_OWN = ("adapter_*", "README.md")


def adapter_of(config: Config) -> PeftConfig | None:
    """The new adapter of `model.adapter`, or None for full fine-tuning and for an adapter that is there already."""
    adapter = config.model.adapter
    if not isinstance(adapter, LoraAdapter):
        return None
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=cast("int", adapter.alpha),
        lora_dropout=adapter.dropout,
        target_modules=adapter.target_modules,
        modules_to_save=adapter.modules_to_save,
        use_dora=adapter.kind == "dora",
        task_type="CAUSAL_LM",
    )


def check_adapter(model: ModelSection) -> None:
    """Refuse quantized weights where they cannot be computed with.

    Raises:
        ConfigError: with what is missing.
    """
    if not isinstance(model.adapter, QLoraAdapter):
        return
    missing = [] if torch.cuda.is_available() else ["a CUDA device"]
    missing += [] if importlib.util.find_spec("bitsandbytes") else ["the package bitsandbytes"]
    if missing:
        raise ConfigError(
            "`model.adapter.kind` must be lora or dora on this machine, but is qlora instead, which needs "
            f"{' and '.join(missing)}; use one of these, or a machine that has it (`pip install betahead[gpu]`)."
        )


def loading_of(model: ModelSection) -> dict[str, Any]:
    """Keywords with which the weights under the adapter are loaded."""
    adapter = model.adapter
    if not isinstance(adapter, QLoraAdapter):
        return {"dtype": model.dtype}
    computes = torch.bfloat16 if model.dtype == "auto" else getattr(torch, model.dtype)
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=adapter.quantization,
        bnb_4bit_use_double_quant=adapter.double_quantization,
        bnb_4bit_compute_dtype=computes,
    )
    return {"dtype": model.dtype, "quantization_config": quantized, "device_map": {"": torch.cuda.current_device()}}


def keep_start(config: Config, policy: Policy, folder: RunFolder) -> None:
    """Keep the adapter that a run begins with, which is its reference, in the run, unless it is kept there already.

    Args:
        config: of the run.
        policy: as the run begins with it, also where it goes on: no checkpoint has been loaded yet.
        folder: of the run.
    """
    if not isinstance(config.model.adapter, SavedAdapter) or folder.reference_adapter.is_dir():
        return
    new = folder.path / ".reference_adapter.writing"
    shutil.rmtree(new, ignore_errors=True)
    policy.save_pretrained(str(new))
    sync_tree(new)
    new.rename(folder.reference_adapter)


def merge_policy(config: Config, folder: RunFolder) -> None:
    """Make `policy/` an ordinary whole model, where that is asked for; the adapter goes to `adapter/`.

    The base is read once more from where it came from, so that what the run holds in memory stays as it is. A quantized
    base is merged into what its quantized weights stand for. A process may be killed at any point of it: called again,
    it begins anew where `policy/` holds an adapter, and else ends what was begun.
    """
    new = folder.path / ".policy.merging"
    if not config.model.adapter.merge or _merged(folder, new):
        return
    start = folder.path / "reference"
    name = str(start) if config.model.fit is not None else cast("str", config.model.name)
    trusted = config.model.trust_remote_code
    base: Any = AutoModelForCausalLM.from_pretrained(
        name, trust_remote_code=trusted, **loading_of(config.model), **SAFETENSORS
    )
    if isinstance(config.model.adapter, QLoraAdapter):
        base = base.dequantize()
    adapted = PeftModel.from_pretrained(base, str(folder.policy))
    untie_head(adapted)
    whole = cast("PreTrainedModel", adapted.merge_and_unload())
    shutil.copytree(folder.policy, new, ignore=shutil.ignore_patterns(*_ADAPTERS_OWN))
    whole.save_pretrained(str(new))
    sync_tree(new)
    folder.policy.rename(folder.adapter)
    new.rename(folder.policy)


def _merged(folder: RunFolder, new: Path) -> bool:
    """Whether `policy/` is merged, once what a killed process left of merging is put in its place or removed."""
    if adapter_kept_in(folder.policy):
        for left in (new, folder.adapter):
            shutil.rmtree(left, ignore_errors=True)
        return False
    if not folder.policy.exists():  # killed between the two renamings: the new one was whole before the first
        new.rename(folder.policy)
    return True


def untie_head(model: PeftModel) -> None:
    """Give an LM head with an adapter weights of its own, which the embedding does not share after merging."""
    inner: Any = model.get_base_model()
    head = inner.get_output_embeddings()
    layer = head.get_base_layer() if hasattr(head, "get_base_layer") else getattr(head, "original_module", None)
    embedding = inner.get_input_embeddings()
    if layer is None or getattr(embedding, "weight", None) is not layer.weight:
        return
    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    inner.config.get_text_config().tie_word_embeddings = inner.config.tie_word_embeddings = False


def adapter_kept_in(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / "adapter_config.json").is_file()
