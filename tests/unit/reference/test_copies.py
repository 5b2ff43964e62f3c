"""A frozen copy is a model of its own that shares what does not learn."""

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from betahead.reference.copies import frozen_copy


def test_a_whole_model_is_copied_whole() -> None:
    model = tiny.llama()
    copy = frozen_copy(model)
    for name, parameter in model.named_parameters():
        other = copy.get_parameter(name)
        assert torch.equal(other, parameter)
        assert other.data_ptr() != parameter.data_ptr()
        assert parameter.requires_grad and not other.requires_grad


@tiny.OLD_NAMES
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize(
    "settings", [{}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}], ids=str
)
def test_of_a_model_with_adapters_only_what_learns_is_copied(settings: dict[str, object]) -> None:
    model = get_peft_model(tiny.qwen2(), LoraConfig(r=2, target_modules=["q_proj"], **settings))
    copy = frozen_copy(model)
    for name, parameter in model.named_parameters():
        other = copy.get_parameter(name)
        assert torch.equal(other, parameter)
        assert (other.data_ptr() == parameter.data_ptr()) == (not parameter.requires_grad), name
        assert not other.requires_grad
    assert any(p.requires_grad for p in model.parameters())
