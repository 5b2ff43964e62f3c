"""Adapters go on, are taken up again, and are refused where they cannot be trained."""

import re
from pathlib import Path

import pytest
import tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from betahead.errors import ConfigError
from betahead.train.adapters import base_named_by, is_adapter_folder, with_adapter, with_saved_adapter
from betahead.train.parts import causal_model

LORA = LoraConfig(r=2, target_modules=["q_proj"])


def sentence(text: str) -> str:
    return f"^{re.escape(text)}$"


def scattered_adapter(folder: Path, *, named: bool = True) -> PeftModel:
    """An adapter that is not zero, saved to `folder/adapter`, on a model saved to `folder/base`."""
    base = tiny.qwen2()
    base.save_pretrained(folder / "base")
    base.config.name_or_path = base.name_or_path = str(folder / "base") if named else ""
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(str(folder / "adapter"))
    return adapted


@tiny.OLD_NAMES
def test_an_adapter_is_put_on_a_model_that_has_none(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path)
    model = with_adapter(tiny.qwen2(), LORA, args)
    assert all("lora" in name for name, p in model.named_parameters() if p.requires_grad)
    plain = tiny.qwen2()
    assert with_adapter(plain, None, args) is plain


@tiny.OLD_NAMES
def test_a_second_adapter_is_refused(tmp_path: Path) -> None:
    wanted = "`peft_config` must be None for a model that already has an adapter; merge it first."
    with pytest.raises(ConfigError, match=sentence(wanted)):
        with_adapter(get_peft_model(tiny.qwen2(), LORA), LORA, tiny.arguments(tmp_path))


@tiny.OLD_NAMES
def test_the_folder_of_an_adapter_is_the_adapter_on_its_base_to_be_trained(tmp_path: Path) -> None:
    adapted = scattered_adapter(tmp_path)
    folder = str(tmp_path / "adapter")
    assert is_adapter_folder(folder)
    assert not is_adapter_folder(str(tmp_path / "base"))
    assert base_named_by(folder) == str(tmp_path / "base")
    loaded = causal_model(folder)
    assert isinstance(loaded, PeftModel)
    learning = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert learning == {name for name, _ in adapted.named_parameters() if "lora" in name}
    for name, p in adapted.named_parameters():
        assert torch.equal(loaded.get_parameter(name), p), name


@tiny.OLD_NAMES
def test_an_adapter_that_names_no_base_is_refused(tmp_path: Path) -> None:
    scattered_adapter(tmp_path, named=False)
    wanted = (
        f"`model` must be a model or an adapter that names its base model, but {tmp_path / 'adapter'} names none; load "
        "the base and the adapter with PEFT, with is_trainable=True, and give the model."
    )
    with pytest.raises(ConfigError, match=sentence(wanted)):
        causal_model(str(tmp_path / "adapter"))


@tiny.OLD_NAMES
@pytest.mark.parametrize("other", ["nowhere", "adapter"])
def test_no_adapter_and_one_for_another_model_are_refused(other: str, tmp_path: Path) -> None:
    scattered_adapter(tmp_path)
    wanted = (
        "^`model.adapter.path` must be the folder of an adapter that was trained on this model, but "
        rf"{tmp_path / other} is not \(.+\); name the adapter's folder and the model that its "
        r"adapter_config\.json names\.$"
    )
    with pytest.raises(ConfigError, match=wanted):
        with_saved_adapter(tiny.qwen2(hidden_size=32), str(tmp_path / other), key="model.adapter.path")


@tiny.OLD_NAMES
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_dora_on_rows_of_zeros_is_refused(tmp_path: Path) -> None:
    wanted = (
        "`use_dora` must be for layers without rows of zeros, which have no direction, but `lm_head` has 1 of them "
        "instead; leave the layer out of `target_modules`, or use LoRA."
    )
    dora = LoraConfig(r=2, target_modules=["lm_head"], use_dora=True)
    with pytest.raises(ConfigError, match=sentence(wanted)):  # the padding token's row is zero
        with_adapter(tiny.qwen2(), dora, tiny.arguments(tmp_path))


def test_quantized_weights_are_not_trained_without_an_adapter(tmp_path: Path) -> None:
    model = tiny.qwen2()
    model.is_quantized = True  # as transformers marks them
    wanted = (
        "`peft_config` must be an adapter for a model with quantized weights, which cannot be trained themselves, but "
        "is None instead; give a LoraConfig, or load the model without quantization."
    )
    with pytest.raises(ConfigError, match=sentence(wanted)):
        with_adapter(model, None, tiny.arguments(tmp_path))
    assert isinstance(with_adapter(model, LORA, tiny.arguments(tmp_path)), PeftModel)
