"""Workers of the data loader: signals to the whole process group pass them by, and one that is lost is told."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.data import DataLoader
from transformers import Trainer

from betahead.errors import WorkerError

Init = Callable[[int], None]

_LOST = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (?:is )?([^.]+)")


class WorkedTrainer(Trainer):
    """`transformers.Trainer` whose workers leave it to the trainer what a signal means."""

    def _get_dataloader(self, *arguments: Any, **keywords: Any) -> DataLoader[Any]:
        """The loader of the trainer, for training or evaluation, with workers that only the trainer can end."""
        loader = super()._get_dataloader(*arguments, **keywords)
        # accelerate wraps the loader that is asked for batches, and passes on only what is read from the wrapper.
        asked: DataLoader[Any] = getattr(loader, "base_dataloader", loader)
        asked.worker_init_fn = partial(heeding_the_trainer_alone, asked.worker_init_fn)
        return loader

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as `transformers.Trainer.train` does.

        Raises:
            WorkerError: when a worker is gone.
        """
        with lost_workers_told(self.args.dataloader_num_workers):
            return super().train(*arguments, **keywords)

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        """Evaluate as `transformers.Trainer.evaluate` does.

        Raises:
            WorkerError: when a worker is gone.
        """
        with lost_workers_told(self.args.dataloader_num_workers):
            return super().evaluate(*arguments, **keywords)


def heeding_the_trainer_alone(begin: Init | None, worker: int) -> None:
    """Begin a worker that SIGTERM ends when its trainer sends it, and nobody else.

    Schedulers send the signal to every process of a job. A worker that died of it would end the step that the trainer
    means to save. Where the trainer itself is gone, torch's workers see that within seconds.
    """
    if sys.platform == "linux":  # only here a process can ask who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_told, daemon=True).start()
    if begin is not None:
        begin(worker)


def _end_when_told() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


@contextmanager
def lost_workers_told(workers: int) -> Generator[None]:
    """Turn what torch says when a worker is gone into one sentence.

    Raises:
        WorkerError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        found = _LOST.match(str(error))
        if found is None:
            raise
        raise WorkerError(
            f"`dataloader_num_workers` must be workers that stay as long as they are needed, but one of {workers} is "
            f"gone ({found[1]}); see what ended it (a signal, too little memory), and go on from the last checkpoint."
        ) from error
