import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from betahead.beta.learned import LearnedBeta
from betahead.data.pack import PackedCollator
from betahead.errors import ConfigError
from betahead.forward.roads import scores_without_gradient
from betahead.train.checkpoint import hidden_size_of
from betahead.train.sizes import check_lengths, check_room, check_vocabulary, learned_positions, steady_positions
from betahead.train.trainer import DPOTrainer
from betahead.types import bundled


def gpt2(positions: int = 64, vocabulary: int = tiny.VOCAB) -> GPT2LMHeadModel:
    config = GPT2Config(vocab_size=vocabulary, n_positions=positions, n_embd=16, n_layer=1, n_head=2)
    return GPT2LMHeadModel(config)


def opt() -> OPTForCausalLM:
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=tiny.VOCAB,
            hidden_size=16,
            word_embed_proj_dim=8,
            ffn_dim=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            pad_token_id=0,
        )
    )


def test_a_table_of_positions_is_seen_and_computed_ones_have_no_end() -> None:
    assert learned_positions(gpt2(40)) == 40
    assert learned_positions(opt()) == 32
    assert learned_positions(tiny.qwen2()) is None


def test_pairs_longer_than_the_table_are_refused(tmp_path: Path) -> None:
    wanted = (
        "`data.max_length` must be at most 6, the positions that the model has, but the longest pair has 12 tokens; "
        "lower it to 6, so that longer ones are cut or dropped."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        DPOTrainer(
            gpt2(6), args=tiny.arguments(tmp_path), train_dataset=tiny.pairs(12), processing_class=tiny.tokenizer()
        )


_SHAPE = {
    "vocab_size": tiny.VOCAB,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}


def phi3() -> Phi3ForCausalLM:
    rope = {"rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 2, "long_factor": [4.0] * 2}
    settings = {**_SHAPE, "max_position_embeddings": 40, "original_max_position_embeddings": 10, "sliding_window": None}
    return Phi3ForCausalLM(Phi3Config(**settings, rope_parameters=rope)).eval()


def dynamic_llama() -> PreTrainedModel:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    return tiny.llama(max_position_embeddings=10, rope_parameters=rope).eval()


def rows_of(*lengths: int) -> list[dict[str, Any]]:
    """Pairs whose longer row has so many tokens."""
    return [
        {
            "prompt_ids": [3 + number for number in range(length - 3)],
            "chosen_ids": [7, 8, 9],
            "rejected_ids": [5, 6],
            "ppl_mask": [False] + [True] * (length - 4),
        }
        for length in lengths
    ]


@pytest.mark.parametrize("made", [phi3, dynamic_llama])
def test_rows_beyond_the_original_context_of_a_rope_that_follows_them_are_refused(
    made: Callable[[], PreTrainedModel],
) -> None:
    model = made()
    assert steady_positions(model) == 10

    def of_the_first(*lengths: int) -> float:
        batch = bundled(PackedCollator()(rows_of(*lengths)))
        return float(scores_without_gradient(model, batch)[0].chosen[0])

    # Why: up to 10 tokens what lies beside a pair does not matter, from 11 it does.
    assert of_the_first(8, 10) == pytest.approx(of_the_first(8), abs=1e-6)
    assert abs(of_the_first(8, 11) - of_the_first(8)) > 1e-4
    check_lengths(model, Dataset.from_list(rows_of(8, 10)))
    wanted = (
        "`data.max_length` must be at most 10, the context beyond which the longest row changes the model's RoPE for "
        "all rows of its batch, but the longest pair has 11 tokens; lower it to 10, so that the numbers of a pair do "
        "not depend on the pairs beside it."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        check_lengths(model, Dataset.from_list(rows_of(8, 11)))


def test_such_a_rope_is_also_found_in_one_kind_of_layer_and_others_have_no_end() -> None:
    rope = {
        "full_attention": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    settings = {**_SHAPE, "head_dim": 4, "max_position_embeddings": 12, "sliding_window": 4}
    assert steady_positions(Gemma3ForCausalLM(Gemma3TextConfig(**settings, rope_parameters=rope))) == 12
    linear = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}
    assert steady_positions(tiny.llama(rope_parameters=linear)) is None
    assert steady_positions(gpt2()) is None


def test_a_trainer_refuses_them_before_anything_is_scored(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`data\.max_length` must be at most 10, the context beyond which"):
        DPOTrainer(
            phi3(), args=tiny.arguments(tmp_path), train_dataset=tiny.pairs(12), processing_class=tiny.tokenizer()
        )


def test_answers_must_fit_behind_their_prompts() -> None:
    check_room(gpt2(20), 10, 10, "max_new_tokens")
    check_room(tiny.qwen2(), 10, 10_000, "max_new_tokens")
    wanted = (
        "`max_new_tokens` must leave prompt and answer within the 20 positions that the model has, but is 11 after "
        "prompts of up to 10 tokens; lower it to 10 at most."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        check_room(gpt2(20), 10, 11, "max_new_tokens")


def test_a_tokenizer_larger_than_the_embedding_is_refused() -> None:
    check_vocabulary(gpt2(), tiny.tokenizer())
    wanted = (
        "`processing_class` must have at most the 40 tokens that the model has embeddings for, but has 48 instead; use "
        "the model's own tokenizer, or resize the embeddings to it and save both."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        check_vocabulary(gpt2(vocabulary=40), tiny.tokenizer())


def test_a_head_is_as_wide_as_what_the_lm_head_reads(tmp_path: Path) -> None:
    assert hidden_size_of(opt()) == 8
    rule = LearnedBeta(learning_rate=0.05)
    trainer = DPOTrainer(
        opt(),
        args=tiny.arguments(tmp_path, max_steps=2),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
        beta=rule,
    )
    trainer.train()
    assert torch.isfinite(torch.tensor(trainer.state.log_history[1]["beta/mean"]))
    assert trainer.state.global_step == 2
