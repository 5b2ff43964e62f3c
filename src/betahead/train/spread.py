"""Weights that are spread over ranks (FSDP2): how they are split, made whole to be saved, and filled again."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import Trainer

from betahead.errors import ConfigError
from betahead.train.ranks import check_ranks, lost_ranks_told


def whole(value: Tensor) -> Tensor:
    """The tensor itself, or all of one of which this rank has a part; then every rank must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, whole and on the CPU; every rank must ask. Tied weights stay one tensor."""
    made: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in made:
            made[id(value)] = whole(value.detach()).cpu()
        state[name] = made[id(value)]
    return state


def part_of(state: dict[str, Tensor] | None, prefix: str) -> dict[str, Tensor] | None:
    """The entries below a prefix, without it; None for None."""
    if state is None:
        return None
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


class SpreadTrainer(Trainer):
    """`transformers.Trainer` under FSDP2 on any device, in the numbers of one process.

    What FSDP would cast, it does not: parameters are gathered in their own precision, and mixed precision is the
    autocast of any other training, so that the beta head and everything per pair stay float32.
    """

    _cuts_checkpoints = False

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            # `transformers` leaves the model where it is until training splits it; the reference is scored before.
            cast("nn.Module", self.model).to(self.args.device)

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, and see that it is one that trains with these settings.

        Raises:
            ConfigError: for processes that do not know one another, or a kind of FSDP that is not made for this.
        """
        check_ranks(self.args)
        super().create_accelerator_and_postprocess()
        if _fsdp_is_asked_for() and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            _spread_on_cpu(self.accelerator)
            self.is_fsdp_enabled = True
        if self.is_fsdp_enabled:
            plugin = cast("FullyShardedDataParallelPlugin", self.accelerator.state.fsdp_plugin)
            _check_plugin(plugin)
            plugin.mixed_precision_policy = MixedPrecisionPolicy()

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[Any]:
        """Autocast where no wrapper around the model's forward turns it on."""
        return self.accelerator.autocast() if self.is_fsdp_enabled else nullcontext()

    def create_scheduler(self, num_training_steps: int, *arguments: Any, **keywords: Any) -> Any:
        """The schedule; by now the model is spread, so checkpoints must be as well when they are loaded."""
        if self.is_fsdp_enabled and not self._cuts_checkpoints:
            self._cuts_checkpoints = True
            for module in cast("nn.Module", self.model).modules():
                module.register_load_state_dict_pre_hook(_spread_as_parameters)
        return super().create_scheduler(num_training_steps, *arguments, **keywords)

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as `transformers.Trainer.train` does.

        Raises:
            ConfigError: a second time under FSDP2, where an optimizer would be joined to the wrong weights.
            RankError: when another rank is gone.
        """
        if isinstance(self.model, FSDPModule):
            raise ConfigError("`train` must be called once under FSDP2, but is called again; make another trainer.")
        with lost_ranks_told():
            return super().train(*arguments, **keywords)

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Evaluate as `transformers.Trainer.evaluate` does.

        Raises:
            ConfigError: before training under FSDP2, which spreads a model together with its optimizer.
            RankError: when another rank is gone.
        """
        if self.is_fsdp_enabled and not isinstance(self.model, FSDPModule):
            raise ConfigError(
                "`evaluate` must come after `train` has begun under FSDP2, but comes before; set `eval_on_start` to "
                "see where training starts."
            )
        with lost_ranks_told():
            return super().evaluate(*arguments, **keywords)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the whole policy and rule, whatever part of them this rank has; every rank must ask."""
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        self._save(output_dir, state_dict=whole_state(cast("nn.Module", self.model)))
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)


def _fsdp_is_asked_for() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true", "yes", "on")


def _spread_on_cpu(accelerator: Accelerator) -> None:
    """On CPUs accelerate takes FSDP for DDP without a word; here it is FSDP."""
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
    # Both states are one object for the whole process; the second is copied from the first again and again.
    PartialState().distributed_type = accelerator.state.distributed_type = DistributedType.FSDP


def _check_plugin(plugin: FullyShardedDataParallelPlugin) -> None:
    if plugin.fsdp_version != 2:
        raise ConfigError(
            f"`fsdp_version` must be 2, but is {plugin.fsdp_version} instead; see configs/accelerate/fsdp2.yaml."
        )
    if plugin.cpu_ram_efficient_loading:
        raise ConfigError(
            "`fsdp_cpu_ram_efficient_loading` must be false, because it leaves out what a rule keeps beside its "
            "parameters, but is true instead."
        )
    kind = cast("Any", plugin.state_dict_type).name
    if kind != "FULL_STATE_DICT":
        raise ConfigError(
            f"`fsdp_state_dict_type` must be FULL_STATE_DICT, but is {kind} instead, whose checkpoints have a pickle "
            "that torch reads without `weights_only`; see configs/accelerate/fsdp2.yaml."
        )


def _spread_as_parameters(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    """Cut whole tensors of a checkpoint as the module's own parameters are cut."""
    for name, parameter in module.named_parameters(recurse=False):
        value = state.get(prefix + name)
        if isinstance(parameter, DTensor) and isinstance(value, Tensor) and not isinstance(value, DTensor):
            state[prefix + name] = distribute_tensor(
                value.to(parameter.device), parameter.device_mesh, parameter.placements
            )
