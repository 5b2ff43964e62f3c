"""What held-out learning cannot be combined with, refused before anything runs."""

from typing import Any

from torch import nn

from betahead.beta.rule import BetaRule
from betahead.errors import ConfigError
from betahead.train.arguments import DPOConfig, shards


def check_held_out(rule: BetaRule, args: DPOConfig, policy: nn.Module) -> None:
    """Refuse settings under which weights cannot be moved to and fro, for a rule that learns from held-out pairs.

    Raises:
        ConfigError: for sharded weights, a scaled loss, trained weights in half precision, or reentrant checkpointing.
    """
    if rule.held_out is None:
        return
    if shards(args):
        raise ConfigError(
            "`fsdp` and `deepspeed` must be off with learning.kind: heldout, which moves all trained weights on every "
            "rank, but one of them is on; train an adapter, or use learning.kind: perspective."
        )
    if args.fp16:
        raise ConfigError(
            "`fp16` must be False with learning.kind: heldout, which reads gradients that are not scaled, but is True "
            "instead; use bf16."
        )
    half = sorted({str(p.dtype) for p in policy.parameters() if p.requires_grad and p.dtype.itemsize < 4})
    if half:
        raise ConfigError(
            "the trained weights must be float32 with learning.kind: heldout, because a small move is lost in the "
            f"rounding of others, but are {half[0].removeprefix('torch.')} instead; say dtype: float32, and bf16 for "
            "mixed precision, or train an adapter."
        )
    kwargs: Any = getattr(args, "activation_checkpointing_kwargs", None) or args.gradient_checkpointing_kwargs
    if args.checkpoints_activations and isinstance(kwargs, dict) and kwargs.get("use_reentrant"):
        raise ConfigError(
            "`gradient_checkpointing_kwargs` must leave out use_reentrant with learning.kind: heldout, whose gradients "
            f"are not those of a backward pass to every weight, but are {kwargs} instead; remove it."
        )
