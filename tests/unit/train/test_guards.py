"""Each guard speaks of a run that really goes wrong, once, and stops it if it is to."""

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import tiny

from betahead.beta.alpha_dpo import AlphaTarget
from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.errors import TrainingError
from betahead.train.guards import Guards
from betahead.train.saving import COURSE
from betahead.train.state_tree import read_tree
from betahead.train.trainer import DPOTrainer

LIVE = {"precompute_ref_log_probs": False}
# How each guard is provoked: a rule, settings that go wrong, and what is said.
PROVOKED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "at_bound": (
        lambda: LearnedBeta(learning_rate=0.5, bounds=(0.05, 0.2)),
        {"guards": {"patience": 2}, "max_steps": 12},
        r"β of \d+% of the pairs has lain on a bound \(0\.05 or 0\.2\) for 2 log lines",
    ),
    "constant": (
        lambda: LearnedBeta(learning_rate=0.5, bounds=(0.05, 0.2)),
        {"guards": {"patience": 2}, "max_steps": 12},
        r"β has become a constant, \S+ for every pair",
    ),
    "falling": (
        lambda: FixedBeta(0.5),
        {"guards": {"falling": 0.1, "patience": 1}, "max_steps": 20, "learning_rate": 0.1},
        r"the log-probabilities of both answers have fallen against the reference",
    ),
    "kl": (
        lambda: FixedBeta(0.5),
        {"guards": {"kl": 0.1, "patience": 1}, "max_steps": 20, "learning_rate": 0.1},
        r"the policy is \S+ nats per answer from the reference \(the mean of",
    ),
    "prompt_drift": (
        lambda: LearnedBeta(couple=True),
        {"guards": {"prompt_drift": 0.05, "patience": 1}, "learning_rate": 0.1},
        r"log PPL of the prompts has gone from \S+ to \S+ nats per token",
    ),
    "level_factor": (
        lambda: PerturbedBeta(0.0625, 0.4),
        {"guards": {"level_factor": 1.05}, **LIVE},
        r"the level of β of `beta\.kind: epsilon_dpo` has gone from 0\.0625 to",
    ),
    "first_margin": (
        lambda: FixedBeta(0.1),
        {"ref_model": 1},
        r"policy and reference must agree before the first step, but a margin is \S+ nats \(limit 0\.001\); check that",
    ),
}


def trainer(folder: Path, rule: Any, **settings: Any) -> DPOTrainer:
    reference = settings.pop("ref_model", None)
    return DPOTrainer(
        tiny.qwen2(),
        None if reference is None else tiny.qwen2(reference),
        tiny.arguments(folder, **{"per_device_train_batch_size": 4} | settings),
        train_dataset=tiny.pairs(16),
        eval_dataset=tiny.pairs(3, seed=1),
        processing_class=tiny.tokenizer(),
        beta=rule,
    )


def warned(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    said = [record.getMessage() for record in caplog.records if record.name == "betahead.train.guards"]
    return [message for message in said if message.startswith(f"{name}: ")]


@pytest.mark.parametrize("name", PROVOKED)
def test_a_guard_speaks_once_of_what_it_is_there_for(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule, settings, wanted = PROVOKED[name]
    made = trainer(tmp_path, rule(), **settings)
    made.train()
    said = warned(caplog, name)
    assert len(said) >= 1 if name == "level_factor" else len(said) == 1, said
    assert re.match(f"{name}: {wanted}", said[0])


@pytest.mark.parametrize("name", PROVOKED)
def test_a_guard_stops_the_run_where_warnings_are_to(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule, settings, wanted = PROVOKED[name]
    settings = settings | {"on_warning": "stop", "save_strategy": "steps", "save_steps": 100}
    if name != "first_margin":  # else others could be first
        others = {one: None for one in PROVOKED if one != name}
        settings |= {"guards": {**others, **settings["guards"]}}
    made = trainer(tmp_path, rule(), **settings)
    with pytest.raises(TrainingError, match=f"^{name}: {wanted}"):
        made.train()
    assert warned(caplog, name) == []
    # The state at the stop is there to be looked at, or to go on from; before the first step there is none.
    kept = [path.name for path in tmp_path.glob("checkpoint-*")]
    assert kept == ([] if name == "first_margin" else [f"checkpoint-{made.state.global_step}"])
    assert made.state.global_step < made.args.max_steps


def test_an_ordinary_run_gives_no_guard_anything_to_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, rule in enumerate((FixedBeta(0.1), LearnedBeta(), LearnedBeta("mlp", form="direct", couple=True))):
        trainer(tmp_path / str(number), rule, max_steps=8, learning_rate=1e-4).train()
    assert [record for record in caplog.records if record.name == "betahead.train.guards"] == []


@pytest.mark.parametrize("steps", [6, 12])
def test_what_a_guard_has_seen_survives_a_resumption(
    steps: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Stopped before it spoke, it goes on counting; stopped after, it does not speak again."""
    caplog.set_level(logging.WARNING, "betahead")
    rule, settings, _ = PROVOKED["at_bound"]
    whole = trainer(tmp_path / "whole", rule(), **settings | {"max_steps": 14})
    whole.train()
    (line,) = warned(caplog, "at_bound")
    caplog.clear()
    saved = {"save_strategy": "steps", "save_steps": 1, "max_steps": 14}
    first = trainer(tmp_path / "cut", rule(), **settings | saved)
    first.train()
    caplog.clear()
    for flag in (False, True):
        again = trainer(tmp_path / "cut", rule(), **settings | saved, restore_callback_states_from_checkpoint=flag)
        again.train(resume_from_checkpoint=str(tmp_path / "cut" / f"checkpoint-{steps}"))
        spoken = int(re.search(r"by step (\d+)", line).group(1))
        assert warned(caplog, "at_bound") == ([line] if steps < spoken else [])
        caplog.clear()
    last = tmp_path / "cut" / "checkpoint-14"
    kept = read_tree(last / COURSE)["callbacks"]["Guards/1"]
    assert kept["at_bound"]["told"] == 1
    # One mechanism keeps the state of our callbacks, and it is not that of `transformers`.
    assert "Guards" not in json.loads((last / "trainer_state.json").read_text())["stateful_callbacks"]


@pytest.mark.parametrize(
    "saving",
    [
        {"save_strategy": "steps", "save_steps": 100},
        {"save_strategy": "no"},
        {"save_strategy": "epoch", "save_only_model": True},
        {
            **{"save_strategy": "best", "eval_strategy": "steps", "eval_steps": 1},
            **{"metric_for_best_model": "loss", "greater_is_better": True},
        },
        {"save_strategy": "no", "logging_strategy": "epoch"},
    ],
    ids=["by steps", "never", "by epochs the model alone", "the best", "never and logging by epochs"],
)
def test_a_stopped_run_goes_on_when_it_is_resumed_whatever_it_saves(saving: dict[str, Any], tmp_path: Path) -> None:
    rule, settings, _ = PROVOKED["kl"]
    settings = settings | {"guards": {"kl": 0.1, "patience": 1, "falling": None}, "on_warning": "stop"} | saving
    made = trainer(tmp_path, rule(), **settings)
    with pytest.raises(TrainingError, match=r"^kl: .*\(`on_warning` is stop; step \d+ has a checkpoint\)$") as told:
        made.train()
    assert f"step {made.state.global_step} has a checkpoint" in str(told.value)
    assert made.state.global_step < made.args.max_steps
    assert made.args.save_only_model is saving.get("save_only_model", False)
    again = trainer(tmp_path, rule(), **settings)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{made.state.global_step}"))
    assert again.state.global_step == 20


def test_all_that_is_wrong_by_a_line_is_said_and_each_guard_that_stopped_is_named_on_resuming(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule, settings, _ = PROVOKED["kl"]
    settings = settings | {"guards": {"kl": 0.1, "falling": 0.05, "patience": 1}}
    made = trainer(tmp_path, rule(), **settings, on_warning="stop")
    with pytest.raises(TrainingError, match=r"falling: the log-probabilities .* kl: the policy is .* has a checkpoint"):
        made.train()
    step = made.state.global_step
    assert step == 2
    for again in (trainer(tmp_path, rule(), **settings, on_warning="stop") for _ in range(2)):
        caplog.clear()
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert [record.getMessage() for record in caplog.records if record.name == "betahead.train.guards"] == [
            f"resume: the run was stopped by {name} at step 2; that guard has spoken and does not stop this run again"
            for name in ("falling", "kl")
        ]
    assert again.state.global_step == 20


def test_a_level_that_stopped_a_run_is_said_to_speak_at_its_next_power(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule, settings, _ = PROVOKED["level_factor"]
    made = trainer(tmp_path, rule(), **settings, on_warning="stop")
    with pytest.raises(TrainingError, match=r"^level_factor: "):
        made.train()
    step = made.state.global_step
    again = trainer(tmp_path, rule(), **settings)
    again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert (
        f"resume: the run was stopped by level_factor at step {step}; that guard has spoken and speaks at its next "
        "power"
    ) in [record.getMessage() for record in caplog.records]


def watching(made: DPOTrainer) -> tuple[set[str], float | None]:
    (guards,) = (one for one in made.callback_handler.callbacks if isinstance(one, Guards))
    return set(guards.watches), guards.first_margin


@pytest.mark.parametrize(
    ("rule", "settings", "names", "first"),
    [
        (lambda: FixedBeta(0.1), {}, {"falling", "kl"}, 1e-3),
        (lambda: FixedBeta(0.1), {"bf16": True}, {"falling", "kl"}, 1.0),
        (lambda: FixedBeta(0.1), {"loss_type": "simpo"}, set(), None),
        (AlphaTarget, {}, set(), None),
        (lambda: PerturbedBeta(0.1), LIVE, {"falling", "kl", "constant", "level_factor"}, 1e-3),
        (lambda: PerturbedBeta(0.1, bounds=(1e-3, 1.0)), LIVE, {"falling", "kl", "constant", "at_bound"}, 1e-3),
        (LearnedBeta, {}, {"falling", "kl", "constant", "at_bound"}, 1e-3),
        (
            lambda: LearnedBeta(couple=True),
            {"guards": {"kl": None, "first_margin": None}},
            {"falling", "constant", "at_bound", "prompt_drift"},
            None,
        ),
    ],
    ids=[
        "fixed",
        "half precision",
        "no reference",
        "the policy's own margin",
        "a level",
        "bounds",
        "learned",
        "coupled",
    ],
)
def test_a_run_is_watched_for_what_it_has(
    rule: Any, settings: dict[str, Any], names: set[str], first: float | None, tmp_path: Path
) -> None:
    assert watching(trainer(tmp_path, rule(), **settings)) == (names, first)


def test_dropout_excuses_a_first_margin(tmp_path: Path) -> None:
    made = DPOTrainer(
        tiny.llama(attention_dropout=0.3),
        args=tiny.arguments(tmp_path, disable_dropout=False),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
    )
    assert watching(made)[1] is None
