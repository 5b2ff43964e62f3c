"""Sizes that must fit before a model is run: a table that is too short ends in an index out of range."""

from typing import Any, cast

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
    """Refuse pairs longer than a learned table of positions, or than the context in which RoPE does not change.

    Raises:
        ConfigError: with both lengths.
    """
    positions, steady = learned_positions(model), steady_positions(model)
    if positions is None and steady is None:
        return
    longest = max((one.prompt + max(one.chosen, one.rejected) for one in tokens_of_rows(dataset)), default=0)
    if positions is not None and longest > positions:
        raise ConfigError(
            f"`data.max_length` must be at most {positions}, the positions that the model has, but the longest pair "
            f"has {longest} tokens; lower it to {positions}, so that longer ones are cut or dropped."
        )
    if steady is not None and longest > steady:
        raise ConfigError(
            f"`data.max_length` must be at most {steady}, the context beyond which the longest row changes the model's "
            f"RoPE for all rows of its batch, but the longest pair has {longest} tokens; lower it to {steady}, so that "
            "the numbers of a pair do not depend on the pairs beside it."
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


def steady_positions(model: nn.Module) -> int | None:
    """The longest row with which RoPE stays what it is for shorter ones; None for kinds that no row changes.

    `dynamic` and `longrope` take their frequencies from the longest row of a batch once it exceeds the original
    context: a pair would then have other numbers in another batch, in the reference cache and at every step.
    """
    config: Any = _inner(model).config.get_text_config()
    given: Any = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [one for one in given.values() if isinstance(one, dict)]  # by kind of layer
    ends: list[int] = []
    for rope in cast("list[dict[str, Any]]", nested or [given]):
        kind = rope.get("rope_type") or rope.get("type")
        if kind == "dynamic":
            ends.append(config.max_position_embeddings)
        elif kind == "longrope":
            original = rope.get("original_max_position_embeddings")
            original = original or getattr(config, "original_max_position_embeddings", None)
            ends.append(original or config.max_position_embeddings)
    return min(ends, default=None)


def _inner(model: nn.Module) -> Any:
    return model.get_base_model() if isinstance(model, PeftModel) else model
