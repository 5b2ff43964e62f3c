"""Training that goes on where it was stopped, to the last bit: losses, β, weights, and every row of the log.

Nothing is scored or measured with what a checkpoint holds: reference and calibration are those of the model that the
trainer was given, and the rule's numbers are then taken from the checkpoint. Everything else that a step depends on is
taken from there, see `train.saving`.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from betahead.errors import CacheError, ConfigError
from betahead.reference.fingerprint import reference_fingerprint
from betahead.train.last_checkpoint import SavesAfterEpoch
from betahead.train.saving import COURSE, SavingTrainer
from betahead.train.scoring import ReferenceScoring
from betahead.train.state_tree import read_tree, state_of
from betahead.train.whole import STATE, checkpoints_in, clear_unfinished, problem_of

logger = logging.getLogger(__name__)


class _Continues(TrainerCallback):
    """Puts back what `transformers` sets to zero when it begins, before any other callback looks."""

    def __init__(self, trainer: "ResumableTrainer", checkpoint: Path) -> None:
        self.trainer, self.checkpoint = trainer, checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The loop has made its counters."""
        self.trainer.continue_from(self.checkpoint)


class ResumableTrainer(SavingTrainer):
    """`transformers.Trainer` that goes on from a checkpoint as if it had not stopped."""

    scoring: ReferenceScoring
    _resumed: Path | None = None

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *arguments: Any, **keywords: Any) -> Any:
        """Train as `transformers.Trainer.train` does.

        Args:
            resume_from_checkpoint: a checkpoint to go on from; True for the last whole one of `output_dir`. What
                `args.resume_from_checkpoint` says when None.
            arguments: of `transformers`.
            keywords: of `transformers`.

        Raises:
            ConfigError: for a checkpoint that is not whole, or of another run.
        """
        wanted = self.args.resume_from_checkpoint if resume_from_checkpoint is None else resume_from_checkpoint
        self._resumed = self._found(wanted)
        self._reference = self._reference or self._marked()
        with self._beside(SavesAfterEpoch(), last=True):
            if self._resumed is None:
                return super().train(None, *arguments, **keywords)
            self._check_course(self._resumed)
            at_start = self.args.eval_on_start
            self.args.eval_on_start = False  # which was done, and logged, at the start
            try:
                with self._beside(_Continues(self, self._resumed), last=False):
                    trained = super().train(str(self._resumed), *arguments, **keywords)
            finally:
                self.args.eval_on_start = at_start
        return trained._replace(training_loss=trained.metrics["train_loss"])

    @contextmanager
    def _beside(self, callback: TrainerCallback, *, last: bool) -> Generator[None]:
        """A callback behind or before all others, for as long as this lasts."""
        others = self.callback_handler.callbacks
        others.insert(len(others) if last else 0, callback)
        try:
            yield
        finally:
            others.remove(callback)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `transformers.Trainer` does; the mean loss of a resumed training is that of all of its steps."""
        if "train_loss" in logs and self._resumed is not None:
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 0.001)
        super().log(logs, start_time)

    def continue_from(self, checkpoint: Path) -> None:
        """Take up what was summed up since the last log line."""
        course = read_tree(checkpoint / COURSE)
        with state_of(checkpoint / COURSE):
            self._total_loss_scalar = float(course["total_loss"])
            self._globalstep_last_logged = int(course["last_logged"])
            ranks = int(course["ranks"])
        best, state = f"checkpoint-{self.state.best_global_step}", self.state
        if state.best_model_checkpoint is None and state.best_global_step:  # the folder has been moved since
            place = Path(cast("str", self.args.output_dir)) / best
            state.best_model_checkpoint = str(place) if place.is_dir() else None
        path = checkpoint / self._rank_file
        if ranks != self.args.world_size or not path.is_file():
            logger.warning(
                "resume: %s was written by %d processes and is resumed by %d, so their random numbers and the sums "
                "since the last log line begin anew",
                *(checkpoint.name, ranks, self.args.world_size),
            )
            return
        with state_of(path):
            mine = read_tree(path)
            self._tr_loss = cast("Tensor", mine["loss"]).to(self.args.device)
            self._metrics["train"].load_state_dict(mine["metrics"], self.args.device)
            if self.held_out is not None:
                self.held_out.load_state_dict(mine["held_out"], self.args.device)

    def _found(self, wanted: Any) -> Path | None:
        """The checkpoint to go on from, known to be whole."""
        if wanted is None or wanted is False:
            return None
        if wanted is not True:
            path = Path(wanted)
            problem = problem_of(path) if path.is_dir() else "is no folder"
            if problem:
                raise ConfigError(
                    f"`resume_from_checkpoint` must be a whole checkpoint, but {path} {problem}; name another one, or "
                    "True for the last whole one of `output_dir`."
                )
            return path
        output = Path(cast("str", self.args.output_dir))
        if self.args.should_save:
            clear_unfinished(output)
        self.accelerator.wait_for_everyone()
        found = checkpoints_in(output)
        for path, problem in found.skipped.items():
            logger.warning("resume: %s is skipped, because it %s", path, problem)
        if found.last is None:
            raise ConfigError(
                f"`resume_from_checkpoint` must find a checkpoint, but {output} holds no whole one; leave it out to "
                "begin with the first step."
            )
        return found.last

    def _marked(self) -> str | None:
        """The fingerprint of the reference, to be asked before a step is taken.

        None where nothing reads it, where the data brought its scores along, for weights that have none, and where no
        checkpoint is read or written.
        """
        if not self.scoring.wanted or self.scoring.brought:
            return None
        if self.scoring.cached is not None:
            return self.scoring.cached.fingerprint
        if self._resumed is None and self.args.save_strategy == "no":
            return None
        try:
            with self.accelerator.autocast():
                return reference_fingerprint(self.scoring.reference, self.args.device)
        except CacheError:  # quantized or spread weights are compared nowhere
            return None

    def _check_course(self, checkpoint: Path) -> None:
        with state_of(checkpoint / STATE):
            TrainerState.load_from_json(str(checkpoint / STATE))
        with state_of(checkpoint / COURSE):
            course = read_tree(checkpoint / COURSE)
            before, then = course["reference"], {key: course["course"][key] for key in self._course}
            pairs = cast("str | None", course.get("pairs"))  # checkpoints from before it was kept have none
        now = self._reference
        if before is not None and now is not None and before != now:
            raise ConfigError(
                f"`model` must be the model that the resumed training began with, as its reference, but {checkpoint} "
                "was trained against another one; give DPOTrainer what it was given then, not the checkpoint, whose "
                "weights are loaded later."
            )
        if self.args.ignore_data_skip:
            return
        for key, value in self._course.items():
            if then[key] != value:
                raise ConfigError(
                    f"`{key}` must be {then[key]} as in {checkpoint}, but is {value} instead; the order of "
                    "the pairs would be another one. Change it back, or set `ignore_data_skip`."
                )
        if pairs is not None and pairs != self._pairs_digest:
            raise ConfigError(
                f"`train_dataset` must hold the pairs of {checkpoint}, token for token and in their order, but holds "
                f"others instead (digest {self._pairs_digest[:12]}… instead of {pairs[:12]}…); give those, or set "
                "`ignore_data_skip`."
            )

    def _load_callback_state(self) -> None:
        """Give callbacks their state back; called once the trainer's own is there."""
        super()._load_callback_state()
        if self._resumed is None:
            return
        asked = TrainerState()  # how often to save is what is asked for now
        asked.compute_steps(self.args, self.state.max_steps)
        self.state.save_steps = asked.save_steps
        if not self.args.restore_callback_states_from_checkpoint:
            self._restore_exportable()
        with state_of(self._resumed / COURSE):
            kept = read_tree(self._resumed / COURSE)["callbacks"]
            for name, callback in self._stateful():
                if name in kept:
                    callback.load_state_dict(kept[name])

    def _restore_exportable(self) -> None:
        """What callbacks of `transformers` have counted, such as the patience of early stopping."""
        mine = [one for one in self.callback_handler.callbacks if isinstance(one, ExportableState)]
        for name, kept in cast("dict[str, Any]", self.state.stateful_callbacks).items():
            same = [one for one in mine if type(one).__name__ == name]
            states = cast("list[dict[str, Any]]", kept if isinstance(kept, list) else [kept])
            for callback, state in zip(same, states[-len(same) :], strict=False):
                vars(callback).update(state["attributes"])

    def _run_epoch(self, *arguments: Any, **keywords: Any) -> None:
        """Train for an epoch, unless the checkpoint was that of the last step, in the middle of one."""
        if self.state.global_step >= self.state.max_steps:
            self._load_rng_state(None if self._resumed is None else str(self._resumed))
            self.control.should_training_stop = True
            return
        cast("Any", super())._run_epoch(*arguments, **keywords)
