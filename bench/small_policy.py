"""A random policy that trains in milliseconds a step, as a Hugging Face folder, for what is not about models."""

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

POSITIONS = 128


def write_policy(folder: Path, tokenizer: PreTrainedTokenizerFast, *, layers: int = 1, heads: int = 2) -> Path:
    """Write a Qwen2 and its tokenizer; the same numbers every time, and large ones, so that texts differ.

    Args:
        folder: where to.
        tokenizer: decides its vocabulary.
        layers: of it.
        heads: of attention, eight wide each; two of them share keys and values.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=8 * heads,
        intermediate_size=16 * heads,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
