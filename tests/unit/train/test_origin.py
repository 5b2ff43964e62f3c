"""A policy that was trained on pairs becomes a reference only with a line that says so."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import tiny
from peft import LoraConfig

from betahead.train.origin import trained_before
from betahead.train.trainer import DPOTrainer

LORA = LoraConfig(r=2, target_modules=["q_proj"])
OBJECT = "this model object has been trained by a DPOTrainer"


def trainer(folder: Path, model: Any, **parts: Any) -> DPOTrainer:
    given = {"train_dataset": tiny.pairs(6), "processing_class": tiny.tokenizer(), **parts}
    settings = given.pop("settings", {})
    return DPOTrainer(model, args=tiny.arguments(folder, max_steps=1, **settings), **given)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the reference, and a fresh start."""
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    found = [message for message in warned if message.startswith("reference: ")]
    caplog.clear()
    return found


def line(found: str) -> str:
    return (
        f"reference: {found}, so that trained policy is the reference now; to be held to the weights that came before, "
        "give them as `ref_model`, or start from them with `resume_from_checkpoint`"
    )


def test_a_model_object_that_was_trained_is_a_new_reference_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.qwen2()
    cached = {"settings": {"reference_cache": str(tmp_path / "cache")}}
    first = trainer(tmp_path / "out", model, **cached)
    # A trainer that has not taken a step leaves the model as it is.
    trainer(tmp_path / "out", model, **cached)
    assert said(caplog) == []
    first.train()
    trainer(tmp_path / "out", model, **cached)
    assert said(caplog) == [line(OBJECT)]
    assert trained_before(copy.deepcopy(model), None) == OBJECT
    # It is a reference of its own: the scores of the first one stay what they are.
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_nothing_is_said_where_the_reference_is_another_or_the_data_bring_its_scores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tiny.qwen2()
    first = trainer(tmp_path, model)
    first.train()
    trainer(tmp_path, model, ref_model=tiny.qwen2())
    trainer(tmp_path, model, train_dataset=first.train_dataset)
    assert said(caplog) == []


@tiny.OLD_NAMES
def test_adapters_count_where_the_reference_has_them(tmp_path: Path) -> None:
    model = tiny.qwen2()
    made = trainer(tmp_path, model, peft_config=LORA)
    made.train()
    adapted = made.model.policy
    assert trained_before(adapted, None) == OBJECT
    # With a new adapter the old layers are off, and the model under them was not trained.
    assert trained_before(model, None, new_adapter=True) is None
    assert trained_before(model, None) == OBJECT
    assert trained_before(adapted.merge_and_unload(), None, new_adapter=True) == OBJECT


def test_a_resumed_policy_counts_as_trained(tmp_path: Path) -> None:
    trainer(tmp_path / "out", tiny.qwen2(), settings={"save_strategy": "steps", "save_steps": 1}).train()
    again = tiny.qwen2()
    trainer(tmp_path / "out", again).train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    assert trained_before(again, None) == OBJECT


def test_a_checkpoint_by_name_or_loaded_from_there_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path / "out", tiny.qwen2(), settings={"save_strategy": "steps", "save_steps": 1}).train()
    folder = tmp_path / "out" / "checkpoint-1"
    assert said(caplog) == []
    made = trainer(tmp_path / "again", str(folder))
    beside = f"{folder} holds beta_head.json, which training on pairs leaves beside a policy"
    assert said(caplog) == [line(beside)]
    loaded = made.model.policy
    assert loaded.config.name_or_path == str(folder)
    assert trained_before(loaded, loaded) == beside
    (folder / "beta_head.json").unlink()
    trainer(tmp_path / "again", loaded)
    assert said(caplog) == [line(f"{folder} holds trainer_state.json, which training leaves in a checkpoint")]


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ({"log_history": [{"loss": 2.0, "step": 1}, {"train_runtime": 3.0}]}, False),
        ({"log_history": [{"loss": 0.6, "rewards/margins": 0.1}]}, True),
        ({"log_history": []}, True),
        ({}, True),
        ("not a state", True),
    ],
    ids=["texts", "pairs", "no log", "no history", "broken"],
)
def test_a_state_counts_unless_its_log_shows_something_else_than_pairs(
    state: Any, counts: bool, tmp_path: Path
) -> None:
    text = state if isinstance(state, str) else json.dumps(state)
    (tmp_path / "trainer_state.json").write_text(text, encoding="utf-8")
    model = tiny.qwen2()
    model.config.name_or_path = str(tmp_path)
    assert (trained_before(model, model) is not None) == counts
