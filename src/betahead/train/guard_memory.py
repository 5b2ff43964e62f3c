"""A device that is full says which pass was too large for it, and which setting makes passes smaller."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from betahead.errors import TrainingError
from betahead.train.arguments import DPOConfig, shards


@contextmanager
def memory_explained(batch: Mapping[str, Any], pairs: int, args: DPOConfig, step: int) -> Generator[None]:
    """Turn "out of memory" inside into one sentence.

    Args:
        batch: of the pass.
        pairs: how many it has.
        args: settings, which decide what there is to lower.
        step: steps taken so far.

    Raises:
        TrainingError: with the tokens of the pass and the setting to lower.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        tokens = batch["input_ids"].numel()
        count = "1 pair" if pairs == 1 else f"{pairs} pairs"
        raise TrainingError(
            f"a pass must fit into the memory of the device ({args.device}), but {count} with {tokens:,} tokens at "
            f"step {step + 1} did not; {_remedy(pairs, tokens, args)}."
        ) from error


def _remedy(pairs: int, tokens: int, args: DPOConfig) -> str:
    """What makes the pass smaller; what leaves the result alone goes first."""
    if not args.checkpoints_activations:
        return "set `gradient_checkpointing: true`, which recomputes activations instead of keeping them"
    if pairs == 1:
        return f"lower `max_length`, now {args.max_length}, or train adapters"
    if not shards(args) and not args.objective.on_batch:
        return f"set `max_batch_tokens` to at most {tokens // 2:,}, which cuts batches and changes nothing else"
    size, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    return (
        f"lower `per_device_train_batch_size`, now {size}, and raise `gradient_accumulation_steps`, now {steps}, by "
        "the same factor"
    )
