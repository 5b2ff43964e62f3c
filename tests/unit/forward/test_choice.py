"""Which models are sent down the plain road, and what is said of it."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import families
import pytest
import tiny
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.data.passes import PairTokens
from betahead.errors import ConfigError
from betahead.forward import attention
from betahead.forward.attention import KernelError
from betahead.forward.choice import Road, _declined, check_forward, road_for, token_ratio
from betahead.forward.layout import TrunkLayout
from betahead.forward.roads import scores_without_gradient
from betahead.train.trainer import DPOTrainer
from betahead.types import bundled


def lengths(*spans: tuple[int, int, int]) -> list[PairTokens]:
    return [PairTokens(prompt=p, chosen=c, rejected=r) for p, c, r in spans]


_LINEAR = {
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "head_dim": 4,
    "num_experts": 0,
    "layer_types": ["linear_attention", "full_attention"],
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
_SLIDING = {"sliding_window": 16, "layer_types": ["sliding_attention"] * 2}

PLAIN: dict[str, tuple[str, dict[str, Any], str]] = {
    "recurrent": (
        "rwkv",
        {"attention_hidden_size": 16, "context_length": 64, "attn_implementation": "eager"},
        "RwkvForCausalLM is recurrent, so an answer would read the one before it",
    ),
    "a state space": (
        "mamba",
        {"state_size": 4, "attn_implementation": "eager"},
        "its layers of kind linear_attention cannot keep one answer out of the other",
    ),
    "linear attention beside attention": (
        "qwen3_next",
        _LINEAR,
        "its layers of kind linear_attention cannot keep one answer out of the other",
    ),
    "recurrent layers beside attention": (
        "jamba",
        {"num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4},
        "its layers of kind linear_attention cannot keep one answer out of the other",
    ),
    "attention in chunks": (
        "llama4_text",
        {
            "attention_chunk_size": 8,
            "layer_types": ["chunked_attention", "full_attention"],
            "num_local_experts": 2,
            "head_dim": 4,
            "intermediate_size_mlp": 24,
        },
        "its layers of kind chunked_attention cannot keep one answer out of the other",
    ),
    "experts with a capacity": (
        "qwen2",
        {"expert_capacity": 8},
        "its experts have a capacity (`expert_capacity`), so tokens of one pair push out those of another",
    ),
    "attention of its own": (
        "bloom",
        {"n_layer": 2, "n_head": 4, "attn_implementation": "eager"},
        "the attention of BloomForCausalLM cannot be called by name",
    ),
    "attention of its own, rotary": (
        "falcon",
        {},
        "the attention of FalconForCausalLM cannot be called by name",
    ),
    "attention in an order of its own": (
        "gpt2",
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "reorder_and_upcast_attn": True},
        "its attention is computed in a way of its own (`reorder_and_upcast_attn`)",
    ),
    "sinks": (
        "gpt_oss",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "head_dim": 4,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "attn_implementation": "eager",
        },
        "its attention takes s_aux, which a shared prompt would miss",
    ),
    "a window in the masks only": (
        "qwen2_moe",
        {"use_sliding_window": True, "shared_expert_intermediate_size": 8, **_SLIDING, **_EXPERTS},
        "its window of 16 tokens is known to its masks only, which packed rows do without",
    ),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_that_cannot_share_prompts_takes_the_plain_road_and_its_line_says_why(name: str) -> None:
    kind, settings, reason = PLAIN[name]
    model = families.made(kind, **settings)
    attention = model.config._attn_implementation
    road = road_for(model, "auto", pairs=lengths((4, 2, 2)))
    assert road == Road(kind="separate", ratio=1.5, reason=reason)
    assert road.line() == f"a row per answer, because {reason}"
    assert isinstance(road.collator(0), PairCollator)
    assert model.config._attn_implementation == attention

    with pytest.raises(ConfigError) as refused:
        road_for(model, "shared")
    assert str(refused.value) == (
        f"`forward.kind` must be auto or separate for this model, but is shared instead; {reason}."
    )
    assert model.config._attn_implementation == attention


def test_a_model_whose_numbers_differ_on_packed_rows_takes_the_plain_road() -> None:
    # Its masks depend on the hidden states, which a function that brings masks of its own never sees.
    road = road_for(families.made("doge"), "auto")
    assert re.fullmatch(r"a packed row gives it other numbers \(log-probabilities off by \d+\.\d%\)", road.reason or "")


def test_weights_that_are_no_numbers_are_named_as_that() -> None:
    model = tiny.qwen2()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    road = road_for(model, "auto")
    reason = "its log-probabilities of random tokens are not finite on either road"
    assert (road.kind, road.reason) == ("separate", reason)

    def broken(module: Any, args: Any, keywords: Any, output: Any) -> None:
        if "trunk_layout" in keywords:
            output.last_hidden_state.fill_(torch.inf)

    packed = tiny.qwen2()
    packed.model.register_forward_hook(broken, with_kwargs=True)
    assert road_for(packed, "auto").reason == "its log-probabilities of random tokens are not finite in a packed row"


def test_the_layout_takes_any_number_of_answers_and_scoring_takes_two() -> None:
    batch = bundled(PackedCollator(answers=("chosen_ids", "rejected_ids", "chosen_ids"))(tiny.records(2)))
    with pytest.raises(AssertionError, match=r"^a pair is a prompt and 2 answers, but the batch has \[3\] answers$"):
        scores_without_gradient(tiny.qwen2(), batch)


def test_a_model_that_breaks_on_packed_rows_takes_the_plain_road_with_what_it_said() -> None:
    model = tiny.qwen2()

    def complaint(module: Any, args: Any, keywords: Any) -> None:
        if "trunk_layout" in keywords:
            raise TypeError("no such\nkeyword")

    model.model.register_forward_pre_hook(complaint, with_kwargs=True)
    road = road_for(model, "auto")
    assert road.reason == "Qwen2ForCausalLM does not take packed rows (TypeError: no such keyword)"
    assert model.config._attn_implementation == "sdpa"


def test_adapters_that_learn_a_prompt_take_the_plain_road() -> None:
    model = get_peft_model(tiny.qwen2(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    reason = "prompt-learning adapters put tokens of their own before every row"
    assert road_for(model, "auto").reason == reason
    with pytest.raises(ConfigError, match=re.escape(reason)):
        road_for(model, "shared")


@tiny.OLD_NAMES
def test_other_adapters_share_prompts() -> None:
    model = get_peft_model(tiny.qwen2(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    assert road_for(model, "shared") == Road(kind="shared")


@pytest.mark.parametrize("name", families.FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_family_of_the_laws_shares_prompts_in_every_precision(name: str, dtype: torch.dtype) -> None:
    model = families.family(name).to(dtype).train()
    # Eager attention of the library gives NaN for padding behind a window in float64, because it narrows its scores.
    with families.Wide() if dtype == torch.float64 else nullcontext():
        road = road_for(model, "auto", pairs=lengths((3, 2, 1), (5, 1, 4)))
    assert road == Road(kind="shared", ratio=1.5)
    assert road.line() == "prompt and both answers in one row; sharing prompts saves 33% of the tokens (ratio 1.50)"
    assert isinstance(road.collator(0), PackedCollator)
    assert all(module.training for module in model.modules())


def test_the_plain_road_that_was_asked_for_needs_no_reason_and_touches_nothing() -> None:
    model = tiny.qwen2()
    road = road_for(model, "separate")
    assert road == Road(kind="separate")
    assert road.line() == "a row per answer"
    assert Road(kind="shared").line() == "one row a pair"
    assert model.config._attn_implementation == "sdpa"


def test_the_choice_draws_nothing_from_the_random_numbers_of_the_run() -> None:
    model = tiny.qwen2()
    before = torch.get_rng_state()
    road_for(model, "auto")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_ratio_counts_each_prompt_twice_over_once() -> None:
    assert token_ratio(lengths((10, 3, 7))) == pytest.approx(30 / 20)
    assert token_ratio(lengths((1, 4, 5), (9, 1, 2))) == pytest.approx((2 * 10 + 12) / (10 + 12))


@pytest.mark.parametrize("kind", ["auto", "shared"])
def test_a_kernel_that_cannot_serve_is_refused_rather_than_left_out(kind: Any) -> None:
    model = tiny.qwen2()
    with pytest.raises(KernelError) as refused:
        road_for(model, kind, kernel="varlen")
    assert str(refused.value) == (
        "`forward.attention` must be auto, sdpa or flex here, but is varlen instead; it needs CUDA, but the model is "
        "on cpu."
    )
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("kind", "kernel", "message"),
    [
        ("both", "auto", "`forward.kind` must be one of auto, shared, separate, but is 'both' instead."),
        (["shared"], "auto", "`forward.kind` must be one of auto, shared, separate, but is ['shared'] instead."),
        ("auto", "xformers", "`forward.attention` must be one of auto, sdpa, varlen, flex, but is 'xformers' instead."),
        (
            "separate",
            "sdpa",
            "`forward.attention` must be auto with `forward.kind` separate, which uses the attention of the model, but "
            "is sdpa instead.",
        ),
    ],
)
def test_settings_of_the_forward_that_do_not_exist_or_fit_are_refused(kind: Any, kernel: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_forward(kind, kernel)
    assert str(refused.value) == message


def test_a_recurrent_model_trains_down_the_plain_road(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kind, settings, reason = PLAIN["a state space"]
    model = families.made(kind, **settings)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = DPOTrainer(
        model,
        args=tiny.arguments(tmp_path, max_steps=2),
        train_dataset=tiny.pairs(4),
        processing_class=tiny.tokenizer(),
        beta=0.3,
    )
    assert f"forward: a row per answer, because {reason}" in caplog.text
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == 2
    assert losses[1] != losses[0]
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_window_that_reaches_the_attention_is_kept_however_long_the_rows() -> None:
    long = {"prompt_ids": list(range(3, 30)), "chosen_ids": [5] * 9, "rejected_ids": [7, 8], "ppl_mask": [False] * 27}
    model = families.made("mistral", sliding_window=16)
    assert road_for(model, "auto").kind == "shared"
    plain, packed = (
        scores_without_gradient(model, bundled(collate([long])))[0]
        for collate in (PairCollator(pad_token_id=0), PackedCollator())
    )
    torch.testing.assert_close(packed.chosen, plain.chosen)
    torch.testing.assert_close(packed.rejected, plain.rejected)


def test_the_kernel_is_tried_in_the_precision_of_the_run_and_the_numbers_in_that_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.dtype] = []

    def serves(query: torch.Tensor, *_: Any) -> str | None:
        seen.append(query.dtype)
        return "wants half" if query.dtype == torch.float32 else "is not here"

    monkeypatch.setattr(attention, "varlen_serves", serves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert road_for(tiny.qwen2(), "auto").kind == "shared"
        assert set(seen) == {torch.float32, torch.bfloat16}
        with pytest.raises(KernelError, match="but is varlen instead; it is not here"):
            road_for(tiny.qwen2(), "auto", kernel="varlen")
    with pytest.raises(KernelError, match="but is varlen instead; it wants half"):
        road_for(tiny.qwen2(), "auto", kernel="varlen")


def test_auto_says_on_a_gpu_why_its_attention_goes_by_masks() -> None:
    layouts = [TrunkLayout(((2, 1, 1),), torch.device("cpu")) for _ in range(2)]
    assert _declined(layouts, torch.device("cuda")) is None
    layouts[1].declined.add("knows no softcap of scores")
    assert _declined(layouts, torch.device("cuda")) == "knows no softcap of scores"
    assert _declined(layouts, torch.device("cpu")) is None
