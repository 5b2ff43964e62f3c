"""How many steps a training takes, and whether its schedule can take them."""

import math

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from betahead.errors import ConfigError
from betahead.train.arguments import DPOConfig


def steps_of(pairs: int, args: DPOConfig) -> int:
    """Optimizer steps over so many pairs.

    Raises:
        ConfigError: when there would be none.
    """
    per_batch = args.per_device_train_batch_size * args.world_size
    batches = pairs // per_batch if args.dataloader_drop_last else -(-pairs // per_batch)
    if batches == 0:
        raise ConfigError(
            f"`train.per_device_train_batch_size` must be at most the number of pairs on every device with "
            f"`train.dataloader_drop_last`, but {pairs:,} {'pair fills' if pairs == 1 else 'pairs fill'} no batch of "
            f"{per_batch}, so that no step would be taken; lower it or keep the last batch."
        )
    if args.max_steps > 0:
        return args.max_steps
    return math.ceil(args.num_train_epochs * -(-batches // args.gradient_accumulation_steps))


def check_schedule(args: DPOConfig, steps: int) -> None:
    """Build the schedule of the learning rate on a stand-in, and ask it for the steps where it changes its kind.

    Raises:
        ConfigError: when its `lr_scheduler_kwargs` are missing, unknown or out of range.
    """
    warmup = args.get_warmup_steps(steps)
    kwargs = dict(args.lr_scheduler_kwargs) if isinstance(args.lr_scheduler_kwargs, dict) else {}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    try:
        schedule = get_scheduler(
            args.lr_scheduler_type,
            optimizer=optimizer,
            num_warmup_steps=warmup,
            num_training_steps=steps,
            scheduler_specific_kwargs=kwargs,
        )
        if isinstance(schedule, LambdaLR):
            for step in {0, warmup, warmup + 1, steps}:
                float(schedule.lr_lambdas[0](step))
    except Exception as error:  # each schedule trips over something else
        name = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ConfigError(
            f"`train.lr_scheduler_kwargs` must fit the schedule {name}, but are {args.lr_scheduler_kwargs!r} instead "
            f"({detail}); see transformers.get_scheduler for its keywords."
        ) from error
