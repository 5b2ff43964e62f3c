import re
from pathlib import Path

import pytest
import tiny
import torch
from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.train.checkpoint import hidden_size_of
from betahead.train.sizes import check_room, check_vocabulary, learned_positions
from betahead.train.trainer import DPOTrainer


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
