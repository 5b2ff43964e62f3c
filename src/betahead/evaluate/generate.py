"""Answers sampled from a model, without leaving a trace in it."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from betahead.errors import ConfigError, DataError
from betahead.forward.modes import evaluating

Prompt = Sequence[int]


def sample_answers(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Prompt],
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
    eos_token_ids: Sequence[int],
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 16,
) -> list[list[list[int]]]:
    """The token ids of `samples` answers to each prompt, in the order of the prompts.

    What decides the answers is what is passed here: settings that the checkpoint ships (a temperature, a repetition
    penalty) are not read. Training mode, generation settings and the random state are afterwards as they were. The
    same seed gives the same answers as long as `batch_size` is the same too.

    Args:
        model: a causal language model of transformers, or a PEFT model around one.
        prompt_ids: token ids of each prompt, generation prompt included.
        eos_token_ids: an answer ends with the first of these.
        temperature: 1 samples from the model as it is, 0 takes the likeliest token.
        top_p: 1 keeps the whole distribution.
        batch_size: answers generated at a time.

    Returns:
        Per prompt, `samples` lists of ids. The end token is included; an answer without one was cut after
        `max_new_tokens`.

    Raises:
        ConfigError: a setting is out of its range.
        DataError: a prompt has no token.
    """
    _check_settings(samples, max_new_tokens, temperature, top_p, batch_size)
    if not eos_token_ids:
        raise ConfigError("`eos_token_ids` must hold at least one token id, but is empty instead.")
    for number, prompt in enumerate(prompt_ids):
        if not prompt:
            raise DataError(f"`prompt_ids` must hold prompts of at least one token, but prompt {number} is empty.")
    pad = cast("int | None", tokenizer.pad_token_id)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature if temperature > 0 else None,
        top_p=top_p if temperature > 0 else None,
        top_k=0 if temperature > 0 else None,
        num_beams=1,
        use_cache=True,
        eos_token_id=list(eos_token_ids),
        # Padding is masked before an answer and dropped after it, so any id serves.
        pad_token_id=eos_token_ids[0] if pad is None else pad,
    )
    device = next(model.parameters()).device
    # Prompts of like length share a batch: less padding.
    rows = sorted(range(len(prompt_ids) * samples), key=lambda row: len(prompt_ids[row // samples]))
    answers: list[list[list[int]]] = [[[] for _ in range(samples)] for _ in prompt_ids]
    with (
        evaluating(model),
        _only_these_settings(model, settings),
        _own_random_state(device, seed),
        torch.no_grad(),
    ):
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            ids, mask = left_padded([prompt_ids[row // samples] for row in batch], cast("int", settings.pad_token_id))
            generate = cast("Any", model).generate
            generated: Tensor = generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=settings
            )
            for row, tokens in zip(batch, generated[:, ids.shape[1] :].tolist(), strict=True):
                answers[row // samples][row % samples] = _up_to_end(tokens, eos_token_ids)
    return answers


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """The rows as one tensor that ends where each row ends, and the mask that is 0 at padding."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


@contextmanager
def _only_these_settings(model: nn.Module, settings: GenerationConfig) -> Generator[None]:
    """Hide the generation settings of the checkpoint: `generate` fills whatever is unset from them."""
    inner: Any = cast("Any", model).get_base_model() if hasattr(model, "get_base_model") else model
    shipped = inner.generation_config
    inner.generation_config = GenerationConfig(
        eos_token_id=settings.eos_token_id, pad_token_id=settings.pad_token_id, use_cache=True
    )
    try:
        yield
    finally:
        inner.generation_config = shipped


@contextmanager
def _own_random_state(device: torch.device, seed: int) -> Generator[None]:
    """A random state of its own for the CPU and the model's device."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _up_to_end(tokens: list[int], eos_token_ids: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in eos_token_ids), len(tokens) - 1)
    return tokens[: end + 1]


def _check_settings(samples: int, max_new_tokens: int, temperature: float, top_p: float, batch_size: int) -> None:
    for name, value in (("samples", samples), ("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"`{name}` must be at least 1, but is {value} instead.")
    if temperature < 0:
        raise ConfigError(f"`temperature` must be at least 0, but is {temperature} instead.")
    if not 0 < top_p <= 1:
        raise ConfigError(f"`top_p` must be in (0, 1], but is {top_p} instead.")
