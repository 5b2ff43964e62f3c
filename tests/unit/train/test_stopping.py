"""Signals: the first one lets a step end and be saved; a second one, or one outside of training, ends all at once."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import resumed
import tiny
from transformers import TrainerCallback

from betahead.beta.fixed import FixedBeta
from betahead.train.stopping import StopOnSignal, Stopped
from betahead.train.trainer import DPOTrainer
from betahead.train.whole import checkpoints_in


class Signals(TrainerCallback):
    """Sends signals in the middle of a step."""

    def __init__(self, step: int, *numbers: int) -> None:
        self.step, self.numbers = step, numbers

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            for number in self.numbers:
                os.kill(os.getpid(), number)


def trainer_of(folder: Path, *callbacks: TrainerCallback, **changes: Any) -> DPOTrainer:
    settings = {"max_steps": 6, "logging_steps": 4} | changes
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **settings),
        train_dataset=tiny.pairs(8),
        eval_dataset=tiny.pairs(3, seed=1),
        processing_class=tiny.tokenizer(),
        beta=FixedBeta(0.1),
        callbacks=[resumed.AtTheEnd(), *callbacks],
    )


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (signal.SIGTERM, {"save_only_model": True}),
        (signal.SIGINT, {"save_strategy": "epoch", "eval_strategy": "epoch"}),
        (
            signal.SIGTERM,
            {"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"},
        ),
    ],
    ids=["without checkpoints", "by epochs", "of the best"],
)
def test_training_ends_with_a_checkpoint_of_the_step_and_goes_on_from_there(
    number: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    whole = trainer_of(tmp_path / "whole", **changes)
    whole.train()
    with StopOnSignal() as stop:
        broken = trainer_of(tmp_path / "run", Signals(3, number), stop, **changes)
        broken.train()
    assert stop.asked
    assert stop.saved_at == broken.state.global_step == 3
    found = checkpoints_in(tmp_path / "run")
    assert found.last == tmp_path / "run" / "checkpoint-3"
    assert broken.args.save_only_model is changes.get("save_only_model", False)
    again = trainer_of(tmp_path / "run", **changes)
    again.train(resume_from_checkpoint=True)
    assert resumed.differences(resumed.record(whole), resumed.record(again)) == []


def test_an_epoch_that_ends_with_the_signal_is_logged_and_evaluated_before_it_is_saved(tmp_path: Path) -> None:
    changes = {"eval_strategy": "epoch", "logging_strategy": "epoch", "save_strategy": "steps", "save_steps": 100}
    whole = trainer_of(tmp_path / "whole", **changes)
    whole.train()
    with StopOnSignal() as stop:
        broken = trainer_of(tmp_path / "run", Signals(4, signal.SIGTERM), stop, **changes)
        broken.train()
    assert stop.saved_at == broken.state.global_step == 4
    assert [row["step"] for row in broken.state.log_history if "eval_loss" in row] == [4]
    again = trainer_of(tmp_path / "run", **changes)
    again.train(resume_from_checkpoint=True)
    assert resumed.differences(resumed.record(whole), resumed.record(again)) == []


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with StopOnSignal() as stop:
        broken = trainer_of(tmp_path, Signals(3, signal.SIGTERM, signal.SIGTERM), stop)
        with pytest.raises(Stopped):
            broken.train()
    assert stop.saved_at is None
    assert checkpoints_in(tmp_path).last is None


def test_outside_of_training_a_signal_ends_the_work_at_once() -> None:
    with StopOnSignal(), pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    # A shell that starts the tests in its background has this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_of_others_are_put_back_and_another_thread_has_none() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopOnSignal():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
    seen: list[Any] = []

    def other() -> None:
        with StopOnSignal():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_child_process_leaves_stopping_to_the_trainer() -> None:
    with StopOnSignal() as stop:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C reaches the workers of a data loader too
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert not stop.asked
