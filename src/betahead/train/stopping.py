"""Signals that ask a training to stop: it saves after the step that it is in, and ends; a second one ends it now."""

import os
import signal
import threading
from typing import Any, Self

import torch
from torch import Tensor, distributed
from transformers import TrainerControl, TrainerState, TrainingArguments

from betahead.train.last_checkpoint import EndsWithCheckpoint
from betahead.train.ranks import launched

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HEARD = b"stopping    after this step, with a checkpoint; once more stops at once\n"
_HEARD_BY_A_RANK = b"stopping    all ranks after the next step, with a checkpoint\n"


class Stopped(KeyboardInterrupt):
    """A signal ended the work at once; nothing was saved for it."""


class StopOnSignal(EndsWithCheckpoint):
    """Ends training at the next step boundary after SIGTERM or SIGINT, once that step has a checkpoint.

    It is a context in which the signals are heard. Outside of training they raise `Stopped` at once, and so does a
    second one in training. On several ranks they all stop at the same step, one later, whichever of them was signalled.
    There a second signal is the first one again: a launcher passes on what whoever stops a job sends to the ranks too.
    Outside of the main thread signals cannot be heard, and nothing happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = self._training = False
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._pending: Tensor | None = None

    def __enter__(self) -> Self:
        """Listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the signals to whoever had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _: Any) -> None:
        if os.getpid() != self._process:  # a worker of the data loader, whose end is the trainer's affair
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        again, self._asked = self._asked, True
        if again and launched():
            return
        if again or not self._training:
            raise Stopped
        # A handler must not print: it may have interrupted somebody who does.
        os.write(2, _HEARD_BY_A_RANK if launched() else _HEARD)

    @property
    def asked(self) -> bool:
        """A signal has come."""
        return self._asked

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """From here on there are steps to finish."""
        self._training = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Have this step saved, if anybody asked."""
        if self._agreed(args):
            self.end(args, state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What follows is not training."""
        self._training = False

    def _agreed(self, args: TrainingArguments) -> bool:
        """Whether all ranks know that one of them was asked."""
        if args.world_size == 1:
            return self._asked
        # What was sent at the last step has arrived by now, so nobody waits for it.
        known = self._pending is not None and bool(self._pending.item())
        self._pending = torch.full((), float(self._asked), device=args.device)
        distributed.all_reduce(self._pending, op=distributed.ReduceOp.MAX)
        return known
