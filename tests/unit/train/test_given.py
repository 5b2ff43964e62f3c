import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import trl
from peft import PromptTuningConfig
from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.train.trainer import DPOTrainer


def made(folder: Path, **changes: Any) -> DPOTrainer:
    parts: dict[str, Any] = {
        "model": tiny.qwen2(),
        "args": tiny.arguments(folder),
        "train_dataset": tiny.pairs(8),
        "processing_class": tiny.tokenizer(),
    }
    return DPOTrainer(**(parts | changes))


@pytest.mark.parametrize("kind", [TrainingArguments, trl.DPOConfig])
def test_arguments_of_another_trainer_are_refused_with_the_remedy(kind: Any, tmp_path: Path, unchecked: None) -> None:
    theirs = kind(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    wanted = (
        f"`args` must be a betahead.DPOConfig, but is a {name} instead; import DPOConfig from betahead, which has the "
        "same fields."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        made(tmp_path, args=theirs)


def test_a_model_that_is_its_own_second_model_is_refused_and_not_frozen(tmp_path: Path) -> None:
    model = tiny.qwen2()
    wanted = (
        "`ref_model` must be another model than `model`, which would be frozen with it, but is the same object "
        "instead; leave it out, and the reference is the model as it is given."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        made(tmp_path, model=model, ref_model=model)
    assert all(p.requires_grad for p in model.parameters())


def test_a_reference_given_by_its_folder_is_loaded_as_in_trl(tmp_path: Path) -> None:
    tiny.qwen2(1).save_pretrained(tmp_path / "other")
    named = made(tmp_path, ref_model=str(tmp_path / "other"))
    loaded = made(tmp_path, ref_model=tiny.qwen2(1))
    assert named.train_dataset["ref_chosen_logps"][:] == loaded.train_dataset["ref_chosen_logps"][:]
    with pytest.raises(ConfigError, match=r"^`ref_model` must be a folder or Hub name of a causal language model, but"):
        made(tmp_path, ref_model=str(tmp_path / "nowhere"))


def test_an_adapter_that_is_no_configuration_is_refused(tmp_path: Path, unchecked: None) -> None:
    wanted = "`peft_config` must be a configuration of PEFT such as LoraConfig or None, but is {} instead."
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        made(tmp_path, peft_config={})


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path, unchecked: None) -> None:
    wanted = (
        "`processing_class` must be a tokenizer of transformers, or None, but is a builtins.str instead; of a "
        "processor give its `tokenizer`."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        made(tmp_path, processing_class="qwen")


def test_the_trained_model_saves_and_generates_as_its_policy_does(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    ids = torch.tensor([[3, 4, 5]])
    options: dict[str, Any] = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(trainer.model.generate(ids, **options), trainer.model.policy.generate(ids, **options))
    trainer.model.save_pretrained(tmp_path / "policy")
    assert sorted(path.name for path in (tmp_path / "policy").glob("*.safetensors")) == ["model.safetensors"]


@tiny.OLD_NAMES
def test_an_adapter_of_virtual_tokens_learns_on_the_plain_road(tmp_path: Path) -> None:
    peft = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    trainer = made(tmp_path, peft_config=peft, args=tiny.arguments(tmp_path, max_steps=3, learning_rate=0.1), beta=0.5)
    assert trainer.road.kind == "separate"
    start = {name: p.detach().clone() for name, p in trainer.model.policy.named_parameters() if p.requires_grad}
    trainer.train()
    assert len(start) == 1
    for name, before in start.items():
        assert not torch.equal(trainer.model.policy.get_parameter(name), before)
    # The reference is the model without the virtual tokens.
    plain = made(tmp_path)
    assert trainer.train_dataset["ref_chosen_logps"][:] == pytest.approx(plain.train_dataset["ref_chosen_logps"][:])
