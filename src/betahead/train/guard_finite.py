"""No step is taken with a number that is not finite: the run stops before, and says with which pairs."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors import safe_open
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from betahead.durable import write_whole
from betahead.errors import TrainingError
from betahead.train.guard_batch import SeenPass, described, plain_numbers
from betahead.train.guard_ranks import NotFinite, Write, first_of_ranks, not_finite, written_on_ranks
from betahead.train.guards import Guards


def written_under(folder: Path) -> Write:
    """Writes JSON files into a folder, which it makes when the first one comes."""

    def write(name: str, seen: dict[str, Any]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(seen, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_whole(folder / name, text.encode())
        return folder / name

    return write


class FiniteGuard(TrainerCallback):
    """Ends training before an optimizer takes a step whose loss or gradient is not finite.

    It reads the device once a step, a handful of numbers together, when all gradients are there: to know beforehand is
    what that costs. Loss scaling of fp16 leaves out such steps by itself, and is left to it while the scale is at least
    1. DeepSpeed takes its steps inside the backward pass, so that there the run stops right after.

    Before a checkpoint is written the trained weights are looked at too, so that every checkpoint is a good one.

    Args:
        model: what is trained.
        accelerator: knows the other processes, which all stop together.
        tokenizer: gives the pairs their texts.
        dataset: the tokenized training pairs, or None.
        checkpoints: the folder they go to.
        on_first: hears by how many nats margins differ from zero at most before the first step.

    Attributes:
        write: keeps what was seen; by default in the folder `failures` beside the checkpoints.
    """

    def __init__(
        self,
        model: nn.Module,
        accelerator: Accelerator,
        tokenizer: PreTrainedTokenizerBase,
        dataset: Dataset | None,
        checkpoints: Path,
        on_first: Callable[[float, bool], None],
    ) -> None:
        self.model, self.accelerator, self.tokenizer, self.dataset = model, accelerator, tokenizer, dataset
        self.checkpoints = checkpoints
        self.write = written_under(checkpoints / "failures")
        self._on_first = on_first
        self._passes: list[SeenPass] = []
        self._norms: tuple[Any, Any] = (0.0, 0.0)

    def saw(self, batch: Mapping[str, Any], losses: Tensor, shown: Mapping[str, Tensor]) -> None:
        """Keep a training pass until its step; states of a reference, which are large, are left behind."""
        small = {name: value for name, value in batch.items() if name != "ref_states"}
        self._passes.append(SeenPass(batch=small, losses=losses.detach(), shown=shown))

    def norms(self, policy: Any, rule: Any) -> None:
        """Keep the gradient norms of the step that is due."""
        self._norms = (policy, rule)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget what an interrupted step has left."""
        self._passes = []

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look at losses and gradients.

        Raises:
            TrainingError: when one is not finite.
        """
        passes, self._passes = self._passes, []
        if not passes:
            return
        losses = torch.cat([one.losses for one in passes])
        lost, norm, head, margins = self._read(losses, passes if state.global_step == 0 else [])
        seen = {"loss": lost, "grad_norm": norm, "the beta rule's gradient": head}
        found = next((there for name, values in seen.items() if (there := not_finite(name, values))), None)
        if found is None:
            if state.global_step == 0:
                self._on_first(_worst(margins), state.is_world_process_zero)
            return
        if found.name != "loss" and self._scaled_away():
            return
        self._stop(found, state, passes, grad_norm=_worst(norm), rule_grad_norm=_worst(head))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the weights where they are about to be written.

        Raises:
            TrainingError: when one is not finite.
        """
        self._before_saving(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The same where a checkpoint is due at the end of an epoch."""
        self._before_saving(state, control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The same where a guard that stops the run has asked for a checkpoint."""
        self._before_saving(state, control)

    def _before_saving(self, state: TrainerState, control: TrainerControl) -> None:
        if not control.should_save:
            return
        broken = first_of_ranks(next(((name, math.nan) for name in broken_weights(self.model)), None))
        if broken is not None:
            self._stop(broken, state, [], step=state.global_step)

    def _read(self, losses: Tensor, first: list[SeenPass]) -> tuple[list[float], ...]:
        """The sum of the losses where one is not finite, both norms, and how far margins are from zero, by rank."""
        device = losses.device
        farthest = torch.cat([one.shown["margin"] for one in first]).abs().max() if first else losses.new_zeros(())
        norms = [_whole(norm, device) for norm in self._norms]
        lost = torch.where(losses.isfinite().all(), 0.0, losses.float().sum())
        mine = torch.stack([lost, *norms, farthest.float()])
        ranks = cast("Tensor", self.accelerator.gather(mine.unsqueeze(0))).tolist()
        return tuple([row[i] for row in ranks] for i in range(4))

    def _scaled_away(self) -> bool:
        scaler: Any = self.accelerator.scaler
        return scaler is not None and scaler.is_enabled() and scaler.get_scale() >= 1.0

    def _stop(
        self,
        found: NotFinite,
        state: TrainerState,
        passes: list[SeenPass],
        *,
        step: int | None = None,
        **norms: float,
    ) -> None:
        step = state.global_step + 1 if step is None else step
        good = last_good_checkpoint(self.checkpoints)
        seen = {
            "what": found.name,
            "value": str(found.value),
            "ranks": found.ranks,
            "step": step,
            "epoch": state.epoch,
            **{key: plain_numbers(torch.tensor(norm))[0] for key, norm in norms.items()},
            "weights": broken_weights(self.model),
            "last_good_checkpoint": None if good is None else str(good),
            "pairs": described(passes, self.tokenizer, self.dataset),
        }
        raise diverged(found, step, where=written_on_ranks(found, self.write, seen), good=good)


def finite_guard_of(trainer: Trainer, tokenizer: PreTrainedTokenizerBase, dataset: Dataset | None) -> FiniteGuard:
    """The guard of a trainer, which it is added to, and which tells its `Guards` of the first step.

    Args:
        trainer: made, with its models where they compute.
        tokenizer: of the pairs.
        dataset: the tokenized training pairs, or None.
    """
    assert trainer.args.output_dir is not None
    guards = next(one for one in trainer.callback_handler.callbacks if isinstance(one, Guards))
    model, folder = cast("nn.Module", trainer.model), Path(trainer.args.output_dir)
    guard = FiniteGuard(model, trainer.accelerator, tokenizer, dataset, folder, guards.first_step)
    trainer.add_callback(guard)
    return guard


def check_finite(model: nn.Module, found: Mapping[str, float], step: int, write: Write) -> None:
    """Look once at the end, at the numbers found and at every trained weight: no step comes that would be looked at.

    Args:
        model: what was trained.
        found: losses by name.
        step: steps taken.
        write: keeps what was seen, before the error is raised.

    Raises:
        TrainingError: with what is not finite and what to change.
    """
    weights = broken_weights(model)
    numbers = [(name, value) for name, value in found.items() if not math.isfinite(value)]
    first = first_of_ranks(next(iter([*numbers, *((name, math.nan) for name in weights)]), None))
    if first is None:
        return
    shown = {name: value if math.isfinite(value) else str(value) for name, value in found.items()}
    where = written_on_ranks(first, write, {"step": step, "ranks": first.ranks, **shown, "weights": weights})
    raise diverged(first, step, where=where)


def broken_weights(model: nn.Module) -> list[str]:
    """The trained weights that are not finite; of a sharded one, this process's part is looked at."""
    parts = ((name, getattr(p, "_local_tensor", p)) for name, p in model.named_parameters() if p.requires_grad)
    return [name for name, part in parts if not bool(part.detach().isfinite().all())]


def last_good_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a folder whose weights are all finite, or None."""
    numbered = [(path, path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*") if path.is_dir()]
    whole = sorted(((int(step), path) for path, step in numbered if step.isdigit()), reverse=True)
    return next((path for _, path in whole if all(_tensors_finite(path))), None)


def diverged(found: NotFinite, step: int, *, where: Path, good: Path | None = None) -> TrainingError:
    """The sentence for a number that is not finite, the same on every rank."""
    shown = f"`{found.name}`" if " " not in found.name else found.name
    kept = "" if good is None else f"; the last good checkpoint is {good}"
    return TrainingError(
        f"training must stay finite, but {shown} is {found.value}{found.place} at step {step} ({where}){kept}; lower "
        "`learning_rate`, clip with `max_grad_norm`, or keep weights and arithmetic in float32, and begin a new run."
    )


def _tensors_finite(folder: Path) -> Iterator[bool]:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            names: list[str] = tensors.keys()
            for name in names:
                value = tensors.get_tensor(name)
                yield not value.is_floating_point() or bool(value.isfinite().all())


def _whole(norm: Any, device: torch.device) -> Tensor:
    """A norm as one number on the device, of whatever kind the wrapper of the model gives."""
    value = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return (
        value.detach().to(device).float() if isinstance(value, Tensor) else torch.full((), float(value), device=device)
    )


def _worst(values: list[float]) -> float:
    """One that is not finite where there is one, else the largest."""
    return next((value for value in values if not math.isfinite(value)), max(values))
