"""When the last checkpoint of an epoch or of a training is written: after everything that is logged of its step."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

_WHOLE = {"save_only_model": False, "save_strategy": SaveStrategy.STEPS}


def epoch_ends(state: TrainerState) -> bool:
    """Whether an epoch ends with the step that has been taken: its own end, or that of the training."""
    return state.global_step >= state.max_steps or float(state.epoch).is_integer()


class SavesAfterEpoch(TrainerCallback):
    """Puts off the checkpoint of an epoch's last step until the epoch has been logged and evaluated.

    A training that is resumed from it begins with the next epoch, and would lack what this one's end has to say.
    """

    def __init__(self) -> None:
        self._put_off = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Not yet."""
        if control.should_save and epoch_ends(state):
            self._put_off, control.should_save = True, False

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Now."""
        control.should_save, self._put_off = control.should_save or self._put_off, False


class EndsWithCheckpoint(TrainerCallback):
    """A callback that can end training; a whole checkpoint is written first, whatever the settings say of saving.

    Attributes:
        saved_at: the step whose checkpoint was written for that; None without one.
    """

    def __init__(self) -> None:
        self.saved_at: int | None = None
        self._asked_for: dict[str, Any] | None = None
        self._epoch_over = False

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Its end is still to come."""
        self._epoch_over = False

    def end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        """Have this step saved, and training ended once it is; to be called on all ranks at the same step."""
        # That of an epoch's last step is for `on_epoch_end` to ask for, unless it is what the epoch's end logs.
        control.should_save = control.should_save or self._epoch_over or not epoch_ends(state)
        if self._asked_for is None:
            self._asked_for = {name: getattr(args, name) for name in _WHOLE}
        # Nothing could go on from the model alone, and "best" would take the wish back where the step is none of those.
        vars(args).update(_WHOLE)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End training, because the checkpoint is there."""
        if self._asked_for is not None:
            self.saved_at = state.global_step
            control.should_training_stop = True
            vars(args).update(self._asked_for)
            self._asked_for = None

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An epoch that was broken off has no end to log, evaluate or save; one that is over is saved with its end."""
        self._epoch_over = True
        if self.saved_at is not None:
            control.should_log = control.should_evaluate = control.should_save = False
        elif self._asked_for is not None:
            control.should_save = True
