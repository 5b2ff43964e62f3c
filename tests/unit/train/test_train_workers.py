"""Workers of the data loader: whom they heed, and what is said of one that is lost."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import tiny
from torch.utils.data import DataLoader

from betahead.errors import WorkerError
from betahead.train.trainer import DPOTrainer
from betahead.train.workers import heeding_the_trainer_alone, lost_workers_told

# Its workers are still there when it ends, and only a signal from it ends them.
ENDS = """
from functools import partial
from torch.utils.data import DataLoader
from betahead.train.workers import heeding_the_trainer_alone
begin = partial(heeding_the_trainer_alone, None)
batches = iter(DataLoader(range(100), num_workers=1, persistent_workers=True, worker_init_fn=begin))
next(batches)
"""


class Terminated:
    """Rows, of which every one is made by a worker that somebody else has told to end."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, number: int) -> int:
        child = os.fork()
        if child == 0:
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        os.waitpid(child, 0)
        return number


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody knows who sent a signal")
def test_a_worker_outlives_a_signal_that_its_trainer_has_not_sent() -> None:
    begun: list[int] = []
    begin = partial(heeding_the_trainer_alone, begun.append)
    loader = DataLoader(Terminated(), num_workers=1, worker_init_fn=begin, multiprocessing_context="fork")
    assert [batch.item() for batch in loader] == [0, 1, 2, 3]


@pytest.mark.slow
def test_workers_end_with_a_process_that_has_kept_them() -> None:
    subprocess.run([sys.executable, "-c", ENDS], timeout=60, check=True)


def test_loaders_for_training_and_evaluation_begin_their_workers_so(tmp_path: Path) -> None:
    trainer = DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(tmp_path),
        train_dataset=tiny.pairs(8),
        eval_dataset=tiny.pairs(4),
        processing_class=tiny.tokenizer(),
    )
    for loader in (trainer.get_train_dataloader(), trainer.get_eval_dataloader()):
        assert loader.worker_init_fn.func is heeding_the_trainer_alone


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", "killed by signal: Killed"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "exited unexpectedly"),
    ],
)
def test_a_lost_worker_is_one_sentence(said: str, detail: str) -> None:
    with pytest.raises(WorkerError) as caught, lost_workers_told(2):
        raise RuntimeError(said)
    assert str(caught.value) == (
        "`dataloader_num_workers` must be workers that stay as long as they are needed, but one of 2 is gone "
        f"({detail}); see what ended it (a signal, too little memory), and go on from the last checkpoint."
    )


def test_what_a_worker_itself_has_raised_passes() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), lost_workers_told(2):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0. shapes differ")
