"""Attention by name: what it refuses, and that a model prepared for layouts is what it was without one."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from betahead.data.pack import PackedCollator
from betahead.errors import ConfigError
from betahead.forward import attention
from betahead.forward.attention import KernelError, branch_attention, sharing_attention, unsharing_attention
from betahead.forward.flex import flex_serves
from betahead.forward.kernels import AttentionSettings
from betahead.forward.layout import Kernel, TrunkLayout
from betahead.forward.roads import pair_forward, scores_without_gradient
from betahead.forward.varlen import varlen_serves
from betahead.types import bundled

SPANS = ((4, 3, 2), (2, 1, 5))
TOKENS = 17


def states(seed: int = 0, *, gradient: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return tuple(  # pyright: ignore[reportReturnType]
        torch.randn(1, heads, TOKENS, 8, generator=draw, requires_grad=gradient) for heads in (4, 2, 2)
    )


def attended(kernel: Kernel, *, gradient: bool = False, **settings: Any) -> Tensor:
    layout = TrunkLayout(SPANS, torch.device("cpu"), kernel)
    return branch_attention(nn.Identity(), *states(gradient=gradient), layout, **settings)


@pytest.mark.parametrize("name", ["s_aux", "sinks", "position_bias", "head_mask", "block_indices", "indices"])
def test_attention_that_adds_something_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        attended("sdpa", **{name: torch.zeros(4)})
    assert str(refused.value) == (
        f"`forward.kind` must be separate for Identity, because its attention takes {name}, which a shared prompt "
        "would miss."
    )
    assert attended("sdpa", **{name: None}).shape == (1, TOKENS, 4, 8)


def test_tensors_that_nobody_here_knows_are_refused_and_all_named() -> None:
    with pytest.raises(ConfigError, match="takes gates, slopes, which"):
        attended("sdpa", slopes=torch.ones(4), gates=torch.ones(4), is_causal=True, position_ids=torch.zeros(1, TOKENS))


def test_what_only_says_where_tokens_stand_changes_nothing() -> None:
    found = attended("sdpa", position_ids=torch.zeros(1, TOKENS), cache_position=torch.zeros(TOKENS), use_cache=False)
    assert torch.equal(found, attended("sdpa"))


def test_varlen_is_refused_on_a_cpu() -> None:
    with pytest.raises(KernelError) as refused:
        attended("varlen")
    assert str(refused.value) == (
        "`forward.attention` must be auto, sdpa or flex here, but is varlen instead; it needs CUDA, but the model is "
        "on cpu."
    )
    query, _, value = states()
    assert varlen_serves(query, value, AttentionSettings()) == "needs CUDA, but the model is on cpu"


def test_auto_is_sdpa_where_varlen_does_not_serve() -> None:
    assert torch.equal(attended("auto", sliding_window=2), attended("sdpa", sliding_window=2))


@pytest.mark.parametrize(
    ("gradient", "settings", "reason"),
    [(False, {"dropout": 0.1}, "drops no attention weights"), (True, {}, "has no backward pass on a CPU")],
)
def test_flex_is_refused_where_it_cannot_serve(gradient: bool, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(KernelError) as refused:
        attended("flex", gradient=gradient, **settings)
    assert str(refused.value) == (f"`forward.attention` must be auto or sdpa here, but is flex instead; it {reason}.")


def test_flex_serves_on_a_cpu_without_gradient() -> None:
    query, *_ = states(gradient=True)
    with torch.no_grad():
        assert flex_serves(query, AttentionSettings()) is None


@pytest.mark.parametrize(
    "settings", [{}, {"sliding_window": 3}, {"softcap": 0.7}, {"scaling": 0.9, "softcap": 2.0, "sliding_window": 2}]
)
def test_flex_gives_the_values_of_sdpa_without_gradient(settings: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        # It says that it is slow where it is not compiled, which it is on a GPU.
        warnings.simplefilter("ignore", UserWarning)
        found = attended("flex", **settings)
    torch.testing.assert_close(found, attended("sdpa", **settings), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["qwen2", "gpt2, absolute positions"])
def test_under_autocast_the_kernel_is_chosen_by_the_dtype_that_it_will_get(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[torch.dtype] = set()

    def serves(query: Tensor, value: Tensor, settings: AttentionSettings) -> str:
        seen.update({query.dtype, value.dtype})
        return "is not here"

    monkeypatch.setattr(attention, "varlen_serves", serves)
    batch = bundled(PackedCollator()(tiny.records(3)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pair_forward(families.family(name), batch)
    assert seen == {torch.bfloat16}


def test_float64_stays_what_it_is_under_autocast() -> None:
    wide = [one.double() for one in states()]
    layout = TrunkLayout(SPANS, torch.device("cpu"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert branch_attention(nn.Identity(), *wide, layout).dtype == torch.float64


def test_flex_scores_whole_batches_as_sdpa_does() -> None:
    model = families.family("gemma2, softcaps and alternating windows")
    batch = bundled(PackedCollator()(tiny.records(3)))
    wanted, _ = scores_without_gradient(model, batch, kernel="sdpa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found, _ = scores_without_gradient(model, batch, kernel="flex")
    torch.testing.assert_close(found.chosen, wanted.chosen)
    torch.testing.assert_close(found.rejected, wanted.rejected)


def test_attention_is_dropped_in_training_only() -> None:
    model = tiny.qwen2(attention_dropout=0.5)
    batch = bundled(PackedCollator()(tiny.records(3)))
    first, second = (pair_forward(model.train(), batch)[0].chosen for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (pair_forward(model.eval(), batch)[0].chosen for _ in range(2))
    assert torch.equal(first, second)


def some_row() -> dict[str, Tensor]:
    ids = torch.tensor([[0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_prepared_model_generates_and_scores_ordinary_rows_as_before(name: str) -> None:
    model = families.family(name)
    settings: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        logits, written = model(**some_row()).logits, model.generate(**some_row(), **settings)
    batch = bundled(PackedCollator()(tiny.records(3)))
    sum(logps.sum() for logps in (pair_forward(model.train(), batch)[0].chosen,)).backward()  # pyright: ignore
    model.eval()
    assert model.config._attn_implementation.startswith("trunks_over_")
    with torch.no_grad():
        assert torch.equal(model(**some_row()).logits, logits)
    assert torch.equal(model.generate(**some_row(), **settings), written)


def test_eager_attention_still_returns_its_weights() -> None:
    model = families.family("qwen2", attn_implementation="eager")
    wanted = model(**some_row(), output_attentions=True).attentions
    sharing_attention(model)
    found = model(**some_row(), output_attentions=True).attentions
    assert len(found) == len(wanted) == 2
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)


def test_sharing_and_undoing_it_again_and_again_changes_nothing_more() -> None:
    model = tiny.qwen2()
    for _ in range(2):
        sharing_attention(model)
        assert model.config._attn_implementation == "trunks_over_sdpa"
    for _ in range(2):
        unsharing_attention(model)
        assert model.config._attn_implementation == "sdpa"


def test_attention_that_was_never_registered_is_refused() -> None:
    model = tiny.qwen2()
    model.config._attn_implementation_internal = "mine"
    with pytest.raises(ConfigError, match=r"`forward\.kind` must be separate for attention called 'mine', because"):
        sharing_attention(model)


def test_a_user_may_set_another_attention_afterwards() -> None:
    model = tiny.qwen2()
    batch = bundled(PackedCollator()(tiny.records(3)))
    wanted, _ = scores_without_gradient(model, batch)
    for name in ("sdpa", "eager"):
        model.set_attn_implementation(name)
        assert model.config._attn_implementation == name
        found, _ = scores_without_gradient(model, batch)
        torch.testing.assert_close(found.chosen, wanted.chosen)


def test_saved_models_do_not_mention_it_and_copies_go_on_sharing(tmp_path: Path) -> None:
    model = tiny.qwen2()
    batch = bundled(PackedCollator()(tiny.records(3)))
    wanted, _ = scores_without_gradient(model, batch)
    model.save_pretrained(tmp_path)
    assert "trunks" not in (tmp_path / "config.json").read_text()
    assert not [key for key in json.loads((tmp_path / "config.json").read_text()) if "attn_impl" in key]
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "sdpa"
    rebuilt = type(model)(model.config)
    rebuilt.load_state_dict(model.state_dict())
    for other in (again, copy.deepcopy(model), rebuilt.eval()):
        found, _ = scores_without_gradient(other, batch)
        assert torch.equal(found.chosen, wanted.chosen)
        assert torch.equal(found.rejected, wanted.rejected)
