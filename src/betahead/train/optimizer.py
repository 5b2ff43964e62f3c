"""Two parties, one optimizer: policy and rule, each with its own step size and its own clipping."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.train.spread import whole


def give_rule_its_own_group(optimizer: Optimizer, rule: nn.Module, learning_rate: float, *, fresh: bool = True) -> None:
    """Put the rule's trainable parameters into a group without weight decay and with their own learning rate.

    Args:
        optimizer: what takes the steps.
        rule: the beta rule.
        learning_rate: step size of the rule; schedules scale it like the others.
        fresh: made here, without state, with the rule's parameters among the policy's, which they leave. Otherwise it
            came from outside, where the rule was not built yet: it keeps what it has, and gets what it lacks.
    """
    parameters = [p for p in rule.parameters() if p.requires_grad]
    own = {id(p) for p in parameters}
    if not parameters or (not fresh and any(id(p) in own for group in optimizer.param_groups for p in group["params"])):
        return
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in own]
    optimizer.add_param_group({"params": parameters, "lr": learning_rate, "weight_decay": 0.0})


def clip_apart(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale these gradients alone to a norm of at most `max_norm`, and return the norm they had.

    One global norm would let a large gradient of the rule shrink the policy's step. Where parameters are spread over
    ranks the norm is that of all their parts.
    """
    with_gradient = [p for p in parameters if p.grad is not None]
    if not with_gradient:
        return torch.zeros(())
    norm = whole(nn.utils.get_total_norm([p.grad for p in with_gradient if p.grad is not None]))
    nn.utils.clip_grads_with_norm_(with_gradient, max_norm, norm)
    return norm


def policy_norm(accelerator: Accelerator, policy: nn.Module, max_norm: float) -> Tensor:
    """Scale the policy's gradients to a norm of at most `max_norm`, and return the norm they had."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:  # which has clipped by itself, and taken the step
        return cast("Tensor", accelerator.clip_grad_norm_(policy.parameters(), max_norm))
    accelerator.unscale_gradients()
    return clip_apart(policy.parameters(), max_norm)


def check_schedule_knows_the_rule(optimizers: tuple[Any, Any], rule: nn.Module) -> None:
    """Refuse a schedule that was made for an optimizer before the rule's group came to it.

    Raises:
        ConfigError: with what to give instead.
    """
    if optimizers[0] is not None and optimizers[1] is not None and any(p.requires_grad for p in rule.parameters()):
        raise ConfigError(
            "`optimizers` must be (optimizer, None) with a beta rule that learns, because the rule's parameters come "
            "to the optimizer as a group of their own that a schedule made before does not know, but there is a "
            f"{type(optimizers[1]).__name__} instead; say `lr_scheduler_type`."
        )


def check_clipped_apart(accelerator: Accelerator, rule: nn.Module, args: TrainingArguments) -> None:
    """Refuse clipping by DeepSpeed, which knows one norm for policy and rule together.

    Raises:
        ConfigError: with what to train with instead.
    """
    learns = any(p.requires_grad for p in rule.parameters())
    if accelerator.distributed_type == DistributedType.DEEPSPEED and learns and args.max_grad_norm > 0:
        raise ConfigError(
            "`max_grad_norm` must be 0 with DeepSpeed and a beta rule that learns, because DeepSpeed clips policy and "
            f"rule by one norm, which would let the rule shrink the policy's step, but is {args.max_grad_norm} "
            "instead; set it to 0, where neither is clipped, or train with FSDP2."
        )
