"""What changes a reference's fingerprint, and what must not."""

import re
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from betahead.errors import CacheError
from betahead.reference.fingerprint import learns, reference_fingerprint
from betahead.reference.frozen import FrozenReference
from betahead.train.parts import without_dropout

CPU = torch.device("cpu")


def fingerprint(model: nn.Module, *, adapters_off: bool = False) -> str:
    return reference_fingerprint(FrozenReference(model, adapters_off=adapters_off), CPU)


def adapted(model: Any, **changes: Any) -> Any:
    return get_peft_model(model, LoraConfig(**({"r": 2, "target_modules": ["q_proj", "v_proj"]} | changes)))


@pytest.mark.parametrize("name", tiny.POLICIES)
def test_the_same_weights_have_the_same_fingerprint_and_others_another(name: str) -> None:
    assert fingerprint(tiny.POLICIES[name]()) == fingerprint(tiny.POLICIES[name]())
    assert fingerprint(tiny.POLICIES[name]()) != fingerprint(tiny.POLICIES[name](1))


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_one_bit_of_any_tensor_is_another_fingerprint(data: st.DataObject) -> None:
    model = tiny.llama()
    before = fingerprint(model)
    parameter = model.get_parameter(data.draw(st.sampled_from([name for name, _ in model.named_parameters()])))
    bits = parameter.data.view(torch.int32).reshape(-1)
    place = data.draw(st.integers(0, bits.numel() - 1))
    bits[place] ^= 1 << data.draw(st.integers(0, 30))
    assert fingerprint(model) != before


# PEFT says so when biases that are trained stay on with the adapters off.
BIASED = pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers with bias configured:UserWarning")


@BIASED
@tiny.OLD_NAMES
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"target_modules": "all-linear"},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [3, 4]},
        {"bias": "all"},
        {"use_dora": True},
    ],
    ids=str,
)
def test_a_model_under_adapters_that_are_off_has_the_fingerprint_of_the_model_alone(config: dict[str, Any]) -> None:
    model = adapted(tiny.llama(), init_lora_weights=False, **config)
    assert fingerprint(model, adapters_off=True) == fingerprint(tiny.llama())
    assert fingerprint(model) != fingerprint(tiny.llama())


@tiny.OLD_NAMES
def test_adapters_that_are_on_count() -> None:
    one, same, other = (adapted(tiny.llama()) for _ in range(3))
    other.load_state_dict(one.state_dict())
    same.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(same)
    with torch.no_grad():
        other.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.weight")[0, 0] = 1.0
    assert fingerprint(one) != fingerprint(other)
    scaled = adapted(tiny.llama(), lora_alpha=32)
    scaled.load_state_dict(one.state_dict())
    assert fingerprint(one) != fingerprint(scaled)


@tiny.OLD_NAMES
def test_merged_adapters_cannot_be_left_out() -> None:
    model = adapted(tiny.llama(), init_lora_weights=False)
    model.merge_adapter()
    wanted = (
        "the reference's adapters must be apart from its weights, but those of `model.layers.0.self_attn.q_proj` are "
        "merged instead; call `unmerge_adapter()` first."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        fingerprint(model, adapters_off=True)


def test_mode_dropout_tokens_and_where_it_came_from_leave_it_alone(tmp_path: Any) -> None:
    before = fingerprint(tiny.llama())
    model = tiny.llama(attention_dropout=0.5).train()
    assert fingerprint(model) == before
    without_dropout(model)
    model.config.use_cache = False
    model.config.pad_token_id, model.config.eos_token_id = 7, 8
    model.config._attn_implementation = "eager"
    assert fingerprint(model) == before
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.name_or_path
    assert fingerprint(loaded) == before
    assert fingerprint(torch.compile(loaded, backend="eager")) == before


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rms_norm_eps": 1e-4},
        {"num_attention_heads": 2},
        {"hidden_act": "gelu"},
    ],
    ids=str,
)
def test_a_setting_that_changes_numbers_is_another_fingerprint(change: dict[str, Any]) -> None:
    other = tiny.llama(**change)
    if "num_attention_heads" not in change:
        other.load_state_dict(tiny.llama().state_dict())
    assert fingerprint(other) != fingerprint(tiny.llama())


def test_precision_of_weights_and_of_the_pass_is_part_of_it() -> None:
    found = {fingerprint(tiny.llama()), fingerprint(tiny.llama().to(torch.bfloat16))}
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            found.add(fingerprint(tiny.llama()))
    assert len(found) == 4


def test_tf32_counts_on_a_device_that_has_it() -> None:
    reference, cuda = FrozenReference(tiny.llama()), torch.device("cuda")
    plain = reference_fingerprint(reference, cuda)
    assert plain == reference_fingerprint(reference, CPU)
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        assert reference_fingerprint(reference, cuda) != plain
        assert reference_fingerprint(reference, CPU) == plain
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_persistent_buffers_count_and_others_do_not() -> None:
    def model(kept: float, passing: float) -> nn.Module:
        module = nn.Linear(2, 2)
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
        module.register_buffer("kept", torch.tensor(kept))
        module.register_buffer("passing", torch.tensor(passing), persistent=False)
        return module

    assert fingerprint(model(1.0, 1.0)) == fingerprint(model(1.0, 2.0))
    assert fingerprint(model(1.0, 1.0)) != fingerprint(model(2.0, 1.0))


def test_a_tensor_that_is_not_contiguous_is_read_in_its_own_order() -> None:
    one, other = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    values = torch.arange(6.0).reshape(2, 3)
    one.weight = nn.Parameter(values)
    other.weight = nn.Parameter(values.T.contiguous().T)
    assert not other.weight.is_contiguous()
    assert fingerprint(one) == fingerprint(other)


def test_weights_that_are_not_held_are_refused() -> None:
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    wanted = (
        "a reference with a cache must have weights that this process holds as plain tensors, but `bias` has not been "
        "loaded instead; score it at every step (`reference.cache: live`)."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        fingerprint(model)


@tiny.OLD_NAMES
def test_a_reference_learns_when_a_weight_it_is_scored_with_does() -> None:
    assert learns(FrozenReference(tiny.llama()))
    assert not learns(FrozenReference(tiny.llama().requires_grad_(False)))
    assert not learns(FrozenReference(adapted(tiny.llama()), adapters_off=True))
    assert learns(FrozenReference(adapted(tiny.llama())))
    biased = tiny.llama(attention_bias=True)
    assert learns(FrozenReference(adapted(biased, bias="all"), adapters_off=True))
