"""Sizes that must fit before a model is run: a table that is too short ends in an index out of range."""

from typing import Any

from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import PreTrainedTokenizerBase

from betahead.data.lengths import tokens_of_rows
from betahead.errors import ConfigError


def check_sizes(model: nn.Module, tokenizer: PreTrainedTokenizerBase, *data: Dataset) -> None:
    """Refuse a tokenizer or pairs that are larger than the model.

    Raises:
        ConfigError: see `check_vocabulary` and `check_lengths`.
    """
    check_vocabulary(model, tokenizer)
    for records in data:
        check_lengths(model, records)


def check_vocabulary(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for.

    Raises:
        ConfigError: with both sizes.
    """
    embeddings: Any = _inner(model).get_input_embeddings()
    known = getattr(embeddings, "num_embeddings", None)
    if known is not None and len(tokenizer) > known:
        raise ConfigError(
            f"`processing_class` must have at most the {known:,} tokens that the model has embeddings for, but has "
            f"{len(tokenizer):,} instead; use the model's own tokenizer, or resize the embeddings to it and save both."
        )


def check_lengths(model: nn.Module, dataset: Dataset) -> None:
    """Refuse pairs longer than a model with a learned table of positions can read.

    Raises:
        ConfigError: with both lengths.
    """
    positions = learned_positions(model)
    if positions is None:
        return
    longest = max((one.prompt + max(one.chosen, one.rejected) for one in tokens_of_rows(dataset)), default=0)
    if longest > positions:
        raise ConfigError(
            f"`data.max_length` must be at most {positions}, the positions that the model has, but the longest pair "
            f"has {longest} tokens; lower it to {positions}, so that longer ones are cut or dropped."
        )


def check_room(model: nn.Module, longest_prompt: int, new_tokens: int, key: str) -> None:
    """Refuse answers that would outgrow a learned table of positions.

    Raises:
        ConfigError: names the key of the answers' length.
    """
    positions = learned_positions(model)
    if positions is not None and longest_prompt + new_tokens > positions:
        raise ConfigError(
            f"`{key}` must leave prompt and answer within the {positions} positions that the model has, but is "
            f"{new_tokens} after prompts of up to {longest_prompt} tokens; lower it to "
            f"{max(positions - longest_prompt, 1)} at most."
        )


def learned_positions(model: nn.Module) -> int | None:
    """The length of a model's table of absolute positions, or None for models that compute positions."""
    inner = _inner(model)
    tables = [
        name
        for name, module in inner.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in ("wpe", "embed_positions")
    ]
    positions = getattr(inner.config.get_text_config(), "max_position_embeddings", None)
    return positions if tables and isinstance(positions, int) else None


def _inner(model: nn.Module) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model
