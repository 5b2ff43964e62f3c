"""Which checkpoint a training goes on from, and which it refuses."""

import json
import logging
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.train.saving import COURSE
from betahead.train.state_tree import read_tree, write_tree
from betahead.train.trainer import DPOTrainer
from betahead.train.whole import MANIFEST, checkpoints_in

SAVING: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


def trainer_of(
    folder: Path, *, model: Any = None, data: Dataset | None = None, beta: Any = None, **changes: Any
) -> Any:
    return DPOTrainer(
        tiny.qwen2() if model is None else model,
        args=tiny.arguments(folder, **(SAVING | changes)),
        train_dataset=tiny.pairs(8) if data is None else data,
        eval_dataset=tiny.pairs(3, seed=1),
        processing_class=tiny.tokenizer(),
        beta=FixedBeta(0.1) if beta is None else beta,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer_of(folder).train()
    return folder


def test_a_checkpoint_holds_no_pickles(run: Path) -> None:
    names = {path.name for path in (run / "checkpoint-2").iterdir()}
    assert {"optimizer.safetensors", "rank-0.safetensors", "course.safetensors", "manifest.json"} <= names
    assert {Path(name).suffix for name in names} <= {".safetensors", ".json", ".jinja"}


def test_true_is_the_last_whole_one_and_the_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer_of(tmp_path, save_steps=1).train()
    (tmp_path / "checkpoint-4" / "optimizer.safetensors").unlink()
    half = tmp_path / "_unfinished" / "checkpoint-5"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        again = trainer_of(tmp_path, save_steps=1)
        again.train(resume_from_checkpoint=True)
    assert caplog.messages == [
        f"resume: {tmp_path / 'checkpoint-4'} is skipped, because it lacks optimizer.safetensors"
    ]
    assert not half.parent.exists()
    assert not checkpoints_in(tmp_path).damaged, "the skipped one was written anew"


def test_the_setting_of_the_arguments_is_read(run: Path, tmp_path: Path) -> None:
    again = trainer_of(tmp_path, resume_from_checkpoint=str(run / "checkpoint-2"))
    again.train()
    assert [row["step"] for row in again.state.log_history if "loss" in row] == [1, 2, 3, 4]
    assert [path.name for path in checkpoints_in(tmp_path).whole] == ["checkpoint-4"]


def test_without_a_whole_one_there_is_nothing_to_resume(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    with pytest.raises(ConfigError) as caught:
        trainer.train(resume_from_checkpoint=True)
    assert str(caught.value) == (
        f"`resume_from_checkpoint` must find a checkpoint, but {tmp_path} holds no whole one; leave it out to begin "
        "with the first step."
    )
    with pytest.raises(ConfigError) as caught:
        trainer.train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    assert str(caught.value) == (
        f"`resume_from_checkpoint` must be a whole checkpoint, but {tmp_path / 'checkpoint-2'} is no folder; name "
        "another one, or True for the last whole one of `output_dir`."
    )


def test_a_checkpoint_of_the_model_alone_is_refused(tmp_path: Path) -> None:
    trainer_of(tmp_path, save_only_model=True).train()
    with pytest.raises(ConfigError, match=r"checkpoint-2 holds the model alone \(`save_only_model`\); name another"):
        trainer_of(tmp_path).train(resume_from_checkpoint=tmp_path / "checkpoint-2")


@pytest.mark.parametrize("live", [False, True])
def test_a_trained_policy_is_never_taken_for_the_reference(live: bool, tmp_path: Path) -> None:
    trainer_of(tmp_path, precompute_ref_log_probs=not live).train()
    checkpoint = tmp_path / "checkpoint-2"
    again = trainer_of(tmp_path / "again", model=str(checkpoint), precompute_ref_log_probs=not live)
    with pytest.raises(ConfigError) as caught:
        again.train(resume_from_checkpoint=checkpoint)
    assert str(caught.value) == (
        f"`model` must be the model that the resumed training began with, as its reference, but {checkpoint} was "
        "trained against another one; give DPOTrainer what it was given then, not the checkpoint, whose weights are "
        "loaded later."
    )


def test_scores_that_the_data_bring_along_are_the_reference_whatever_the_model_is(tmp_path: Path) -> None:
    scored = trainer_of(tmp_path / "scored").train_dataset
    trainer_of(tmp_path / "run", data=scored).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    again = trainer_of(tmp_path / "again", model=str(checkpoint), data=scored)
    again.train(resume_from_checkpoint=checkpoint)
    assert again.state.global_step == 4


def test_the_scale_comes_from_the_checkpoint(tmp_path: Path) -> None:
    trainer_of(tmp_path, beta=LearnedBeta()).train()
    again = trainer_of(tmp_path / "again", beta=LearnedBeta())
    wanted = again.rule.head.log_ppl_scale.clone()
    again.rule.calibrate(torch.tensor([0.5]))
    again.train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    assert torch.equal(again.rule.head.log_ppl_scale, wanted)


@pytest.mark.parametrize(
    ("key", "changes", "was", "now"),
    [
        ("train_dataset", {"data": tiny.pairs(6)}, "8 pairs", "6 pairs"),
        (
            "per_device_train_batch_size",
            {"gradient_accumulation_steps": 2},
            "such that a step has 2 pairs",
            "such that a step has 4 pairs",
        ),
        ("data_seed", {"data_seed": 5}, "42", "5"),
        ("train_sampling_strategy", {"train_sampling_strategy": "sequential"}, "random", "sequential"),
    ],
)
def test_another_order_of_pairs_is_refused(
    key: str, changes: Any, was: str, now: str, run: Path, tmp_path: Path
) -> None:
    again = trainer_of(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        again.train(resume_from_checkpoint=run / "checkpoint-2")
    assert str(caught.value) == (
        f"`{key}` must be {was} as in {run / 'checkpoint-2'}, but is {now} instead; the order of the pairs would be "
        "another one. Change it back, or set `ignore_data_skip`."
    )
    if key != "train_dataset":
        trainer_of(tmp_path, ignore_data_skip=True, **changes).train(resume_from_checkpoint=run / "checkpoint-2")


@pytest.mark.parametrize("change", ["others", "another order", "chosen and rejected exchanged"])
def test_as_many_other_pairs_are_refused(change: str, run: Path, tmp_path: Path) -> None:
    pairs = tiny.pairs(8)
    swapped = pairs.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    data = {"others": tiny.pairs(8, seed=5), "another order": pairs.select(range(7, -1, -1))}.get(change, swapped)
    with pytest.raises(ConfigError) as caught:
        trainer_of(tmp_path, data=data).train(resume_from_checkpoint=run / "checkpoint-2")
    assert re.fullmatch(
        f"`train_dataset` must hold the pairs of {re.escape(str(run / 'checkpoint-2'))}, token for token and in their "
        "order, but holds others instead \\(digest [0-9a-f]{12}… instead of [0-9a-f]{12}…\\); give those, or set "
        r"`ignore_data_skip`\.",
        str(caught.value),
    )
    trainer_of(tmp_path, data=data, ignore_data_skip=True).train(resume_from_checkpoint=run / "checkpoint-2")


def test_a_checkpoint_that_knows_no_digest_of_its_pairs_is_gone_on_from(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "checkpoint-2"
    shutil.copytree(run / "checkpoint-2", old)
    course = read_tree(old / COURSE)
    assert len(course.pop("pairs")) == 64
    write_tree(old / COURSE, course)
    manifest = json.loads((old / MANIFEST).read_text())
    manifest["files"][COURSE] = (old / COURSE).stat().st_size
    (old / MANIFEST).write_text(json.dumps(manifest))
    again = trainer_of(tmp_path)
    again.train(resume_from_checkpoint=old)
    assert again.state.global_step == 4


def test_the_mean_loss_is_that_of_all_steps(run: Path, tmp_path: Path) -> None:
    again = trainer_of(tmp_path)
    trained = again.train(resume_from_checkpoint=run / "checkpoint-2")
    losses = [row["loss"] for row in again.state.log_history if "loss" in row]
    assert math.isclose(trained.training_loss, sum(losses) / 4, rel_tol=1e-6)
    assert trained.metrics["train_loss"] == trained.training_loss


def test_the_limit_and_the_best_one_survive_a_resumption(tmp_path: Path) -> None:
    settings = {
        "save_steps": 1,
        "save_total_limit": 2,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "metric_for_best_model": "loss",
        "learning_rate": 0.0,  # so that the first one stays the best
        "load_best_model_at_end": True,
        "max_steps": 3,
    }
    first = trainer_of(tmp_path / "a", **settings)
    first.train()
    assert [path.name for path in checkpoints_in(tmp_path / "a").whole] == ["checkpoint-1", "checkpoint-3"]
    assert first.state.best_model_checkpoint == str(tmp_path / "a" / "checkpoint-1")
    (tmp_path / "a").rename(tmp_path / "moved")
    again = trainer_of(tmp_path / "moved", **(settings | {"max_steps": 5}))
    again.train(resume_from_checkpoint=True)
    assert again.state.best_model_checkpoint == str(tmp_path / "moved" / "checkpoint-1")
    assert [path.name for path in checkpoints_in(tmp_path / "moved").whole] == ["checkpoint-1", "checkpoint-5"]


def test_a_clock_set_back_deletes_no_new_checkpoint(tmp_path: Path) -> None:
    import os

    trainer = trainer_of(tmp_path, save_steps=1, save_total_limit=2)
    inner = trainer._save_checkpoint

    def set_back(*arguments: Any) -> None:
        inner(*arguments)
        step = trainer.state.global_step
        os.utime(tmp_path / f"checkpoint-{step}", (2e9 - 1e6 * step, 2e9 - 1e6 * step))

    trainer._save_checkpoint = set_back
    trainer.train()
    assert [path.name for path in checkpoints_in(tmp_path).whole] == ["checkpoint-3", "checkpoint-4"]


def test_a_disk_that_is_full_is_one_sentence_and_the_last_checkpoint_stays(tmp_path: Path) -> None:
    """The limit is the kernel's own, for the size of a file."""
    import resource

    trainer = trainer_of(tmp_path, save_steps=1)
    inner, limits = trainer._save_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(*arguments: Any) -> None:
        if trainer.state.global_step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
        inner(*arguments)

    trainer._save_checkpoint = full
    try:
        with pytest.raises(ConfigError) as caught:
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"`output_dir` must have room for checkpoints, but {tmp_path} took none at step 3 (File too large); make room "
        "and resume from checkpoint-2."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    again = trainer_of(tmp_path, save_steps=1)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert re.fullmatch(r"checkpoint-4", checkpoints_in(tmp_path).last.name)
