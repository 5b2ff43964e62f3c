import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from betahead.forward.modes import evaluating
from betahead.reference.frozen import FrozenReference
from betahead.types import PairBatch


def test_every_module_is_back_in_its_own_mode_afterwards_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    model.train()
    model[1].eval()

    def look_and_fail() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        look_and_fail()
    assert model.training and model[0].training
    assert not model[1].training and not model[1][0].training


def test_dropout_does_not_touch_the_scores() -> None:
    batch = PairBatch.from_dict(tiny.batch(3))
    model = tiny.llama(attention_dropout=0.9).train()
    scores = FrozenReference(model).scores(batch)
    assert model.training
    calm = FrozenReference(tiny.llama()).scores(batch)
    assert torch.equal(scores.chosen_logps, calm.chosen_logps)
    assert torch.equal(scores.rejected_logps, calm.rejected_logps)


def test_log_ppl_is_scored_only_when_it_is_wanted() -> None:
    batch = PairBatch.from_dict(tiny.batch(3))
    assert FrozenReference(tiny.qwen2()).scores(batch).log_ppl is None
    wanted = FrozenReference(tiny.qwen2(), wants_log_ppl=True).scores(batch)
    assert wanted.log_ppl is not None
    assert set(wanted.columns()) == {"ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl"}
    assert not any(column.requires_grad for column in wanted.columns().values())


@tiny.OLD_NAMES
def test_adapters_off_gives_back_the_model_under_them_and_leaves_them_on() -> None:
    batch = PairBatch.from_dict(tiny.batch(3))
    plain = FrozenReference(tiny.qwen2()).scores(batch)
    adapted = get_peft_model(tiny.qwen2(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    trainable = [name for name, p in adapted.named_parameters() if p.requires_grad]
    with_adapter = FrozenReference(adapted).scores(batch)
    without = FrozenReference(adapted, adapters_off=True).scores(batch)
    assert torch.equal(without.chosen_logps, plain.chosen_logps)
    assert not torch.allclose(with_adapter.chosen_logps, plain.chosen_logps)
    assert torch.equal(FrozenReference(adapted).scores(batch).chosen_logps, with_adapter.chosen_logps)
    assert [name for name, p in adapted.named_parameters() if p.requires_grad] == trainable
