"""A level of β that nothing holds is reported, once for every factor of 10."""

import logging
from pathlib import Path
from typing import Any

import pytest
import tiny

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.train.drift import WarnOfDrift
from betahead.train.trainer import DPOTrainer


def told(levels: list[float], caplog: pytest.LogCaptureFixture) -> list[str]:
    watcher = WarnOfDrift("epsilon_dpo", 0.01)
    state: Any = type("State", (), {"global_step": 7})()
    caplog.clear()
    for level in levels:
        watcher.on_log(None, state, None, {"beta/base": level})  # pyright: ignore
    watcher.on_log(None, state, None, {"loss": 1.0})  # pyright: ignore
    return [record.getMessage() for record in caplog.records]


def test_a_level_is_reported_when_it_has_left_another_factor_of_ten(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "betahead")
    assert told([0.01, 0.05, 0.0011, 0.099], caplog) == []
    (one,) = told([0.1, 0.5, 0.2], caplog)
    assert one == (
        "beta.kind epsilon_dpo: its level of β has gone from 0.01 to 0.1 by step 7, and nothing holds it; set "
        "`beta.bounds`, or a smaller perturbation."
    )
    assert len(told([0.001, 0.0001, 0.00001], caplog)) == 3


@pytest.mark.parametrize("bounds", [None, (1e-3, 1.0)])
def test_a_trainer_watches_a_level_without_bounds(bounds: Any, tmp_path: Path) -> None:
    trainer = DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(tmp_path, precompute_ref_log_probs=False),
        train_dataset=tiny.pairs(4),
        processing_class=tiny.tokenizer(),
        beta=PerturbedBeta(0.1, bounds=bounds),
    )
    watching = any(isinstance(one, WarnOfDrift) for one in trainer.callback_handler.callbacks)
    assert watching == (bounds is None)
