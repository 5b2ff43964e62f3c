"""Processes that were launched together: whether they know one another, and what they say when one is lost."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TypeVar

import torch.distributed as dist
from transformers import TrainingArguments

from betahead.errors import ConfigError, RankError

T = TypeVar("T")

_GONE = (
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "timed out",
    "timeout",
    "remote process has exited",
)


def launched() -> bool:
    """Whether a launcher started this process, such as `accelerate launch` and `torchrun`, or several of its kind."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1


def first_rank() -> bool:
    """Whether this process is the only one, or the first of those that were launched together."""
    return int(os.environ.get("RANK", "0")) == 0


def from_first_rank(value: T) -> T:
    """What the first rank has, on every rank; each must ask."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    held: list[T] = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def from_all_ranks(value: T) -> list[T]:
    """What every rank has, in their order, on every rank; each must ask."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    held: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(held, value)
    return held


def own_rank() -> int:
    """The number of this process among those that train together; 0 where it is the only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def check_ranks(args: TrainingArguments) -> None:
    """Refuse several launched processes of which each would train by itself.

    Raises:
        ConfigError: with what joins them.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and args.world_size == 1:
        raise ConfigError(
            f"`use_cpu` must be true where {launched} processes are launched without a device for each, but is "
            f"{str(args.use_cpu).lower()} instead, so that each of them would train alone; say `train.use_cpu=true`, "
            "or launch one process."
        )
    # Every rank has looked where the run is to lie, before the first one makes its folder there.
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


@contextmanager
def lost_ranks_told() -> Generator[None]:
    """Turn what the libraries say when an exchange with another rank fails into one sentence.

    A rank that ends closes its connections, which the others see at their next exchange; one that hangs is given up
    after `ddp_timeout` seconds.

    Raises:
        RankError: in place of an error of an exchange.
    """
    try:
        yield
    except RuntimeError as error:
        detail = _lost(error)
        if detail is None:
            raise
        rank, ranks = dist.get_rank(), dist.get_world_size()
        raise RankError(
            f"training on {ranks} ranks must keep all of them, but rank {rank} has lost another one ({detail}); see "
            "what ended that one (a signal, too little memory), and start again from the last checkpoint."
        ) from error


def _lost(error: RuntimeError) -> str | None:
    """What the libraries say of a rank that is gone, in a few words; None for any other error."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    said = str(error).lower()
    return next((words for words in _GONE if words in said), None)
