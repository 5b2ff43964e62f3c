"""Writing a checkpoint: apart, all of it, and without pickles of ours.

Beside what `transformers` keeps (weights, optimizer, schedule, scaler, generators, `trainer_state.json`) a checkpoint
of ours holds what it forgets: the loss and the metrics summed up since the last log line, on every rank, the state of
callbacks, and which reference the policy is held to. It is written apart and renamed (`train.whole`). Optimizer,
schedule, scaler and generators are safetensors and JSON (`train.state_tree`). Where the optimizer is spread there are
pickles beside them: under FSDP accelerate writes `pytorch_model_fsdp.bin` and `optimizer.bin`, and `transformers`
`scheduler.pt`, all read back with `weights_only`; DeepSpeed reads its own files without it.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from datasets import Dataset

from betahead.durable import refusal
from betahead.errors import ConfigError
from betahead.reference.row_keys import RowKeyMaker
from betahead.train.arguments import DPOConfig
from betahead.train.checkpoint import FolderTrainer
from betahead.train.heldout import HeldOutGradient
from betahead.train.metrics import PairMetrics
from betahead.train.randomness import random_states, restore_random_states
from betahead.train.state_tree import read_tree, state_of, write_tree
from betahead.train.whole import STATE, UNFINISHED, abandon, begin, checkpoints_in, finish, keep_few

OPTIMIZER = "optimizer.safetensors"
SCALER = "scaler.safetensors"
COURSE = "course.safetensors"
"""What all ranks share."""


@runtime_checkable
class Stateful(Protocol):
    """A callback whose state belongs into checkpoints: what `state_dict` returns is kept by `state_tree.write_tree`."""

    def state_dict(self) -> dict[str, Any]:
        """What the callback remembers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember that; called before `on_train_begin`."""
        ...


class SavingTrainer(FolderTrainer):
    """`transformers.Trainer` whose checkpoints are whole or not there, and hold everything that a step depends on."""

    held_out: HeldOutGradient | None
    _metrics: dict[str, PairMetrics]
    _staged: Path | None = None
    _reference: str | None = None
    _digested: tuple[Dataset, str] | None = None

    def _get_output_dir(self, trial: Any) -> str:
        """Where checkpoints go: while one is written, the folder beside their place."""
        return super()._get_output_dir(trial) if self._staged is None else str(self._staged.parent)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint apart, and put it in its place when all of it is on the disk.

        Raises:
            ConfigError: when the file system refuses; nothing of the attempt is left, and earlier checkpoints stay.
        """
        output, step = Path(super()._get_output_dir(trial)), self.state.global_step
        staged, place = output / UNFINISHED / f"checkpoint-{step}", output / f"checkpoint-{step}"
        resumable = not self.args.save_only_model
        try:
            if self.args.should_save:
                begin(output, step)
            self.accelerator.wait_for_everyone()
            self._staged = staged
            super()._save_checkpoint(model, trial)
            if self.state.best_model_checkpoint == str(staged):
                self.state.best_model_checkpoint = str(place)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self._write_shared(staged)
                finish(staged, resumable=resumable)
        except BaseException as error:
            abandon(staged)
            said = refusal(error)
            if said is None:
                raise
            last = checkpoints_in(output).last
            raise ConfigError(
                f"`output_dir` must have room for checkpoints, but {output} took none at step {step} ({said}); "
                + ("make room and train again." if last is None else f"make room and resume from {last.name}.")
            ) from error
        finally:
            self._staged = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            keep_few(output, self.args.save_total_limit, [place, *([Path(best)] if best else [])])
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(place))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Upload a checkpoint once it is in its place, where it stays while that goes on."""
        if self._staged is None:
            super()._push_from_checkpoint(checkpoint_folder)

    def _write_shared(self, folder: Path) -> None:
        """What all ranks share, and `trainer_state.json` with the places that files will have."""
        self.state.save_to_json(os.fspath(folder / STATE))
        course = {
            "ranks": self.args.world_size,
            "reference": self._reference,
            "course": self._course,
            "pairs": self._pairs_digest,
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "callbacks": {name: callback.state_dict() for name, callback in self._stateful()},
        }
        write_tree(folder / COURSE, course)

    @property
    def _rank_file(self) -> str:
        return f"rank-{self.args.process_index}.safetensors"

    @property
    def _spread(self) -> bool:
        """FSDP or DeepSpeed hold the optimizer, and keep it in files of their own."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def _save_rng_state(self, output_dir: str) -> None:
        """Keep what is a rank's own: its generators, and its sums since the last log line."""
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        mine = {
            "random": random_states(self.args.device),
            "loss": self._tr_loss,
            "metrics": self._metrics["train"].state_dict(),
            "held_out": None if self.held_out is None else self.held_out.state_dict(),
        }
        write_tree(Path(output_dir) / self._rank_file, mine)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Take up the rank's generators."""
        path = Path(checkpoint or "") / self._rank_file
        if checkpoint is not None and path.is_file():
            with state_of(path):
                restore_random_states(read_tree(path)["random"], self.args.device)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Keep the states of optimizer and schedule."""
        if self._spread:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            states = {"optimizer": self.optimizer, "schedule": self.lr_scheduler}
            states = {name: cast("Any", one).state_dict() for name, one in states.items()}
            write_tree(Path(output_dir) / OPTIMIZER, states, key="optim")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Take up the states of optimizer and schedule."""
        if self._spread or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        path = Path(checkpoint) / OPTIMIZER
        with state_of(path):
            states = read_tree(path)
            cast("Any", self.optimizer).load_state_dict(states["optimizer"])
            cast("Any", self.lr_scheduler).load_state_dict(states["schedule"])

    def _save_scaler(self, output_dir: str) -> None:
        """Keep the state of the gradient scaler, where there is one."""
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None and self.args.should_save:
            write_tree(Path(output_dir) / SCALER, scaler.state_dict())

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Take up the state of the gradient scaler, where there is one."""
        path = Path(checkpoint or "") / SCALER
        if checkpoint is not None and path.is_file():
            with state_of(path):
                cast("Any", self.accelerator.scaler).load_state_dict(read_tree(path))

    def _stateful(self) -> Iterator[tuple[str, Stateful]]:
        """Callbacks with a state, each with a name of its own."""
        seen: dict[str, int] = {}
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, Stateful):
                name = type(callback).__name__
                seen[name] = seen.get(name, 0) + 1
                yield f"{name}/{seen[name]}", callback

    @property
    def _pairs_digest(self) -> str:
        """Of the tokens of all pairs in their order, which are digested once."""
        pairs = cast("Dataset", self.train_dataset)
        if self._digested is None or self._digested[0] is not pairs:
            keys = RowKeyMaker(fingerprint="").of_dataset(pairs)
            whole = hashlib.sha256(b"".join(key for row in keys for key in row))
            self._digested = pairs, whole.hexdigest()
        return self._digested[1]

    @property
    def _course(self) -> dict[str, Any]:
        """What decides which pairs come when."""
        args = cast("DPOConfig", self.args)
        step = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return {
            "train_dataset": f"{len(cast('Dataset', self.train_dataset)):,} pairs",
            "per_device_train_batch_size": f"such that a step has {step} pairs",
            "data_seed": args.seed if args.data_seed is None else args.data_seed,
            "train_sampling_strategy": str(args.train_sampling_strategy),
        }
