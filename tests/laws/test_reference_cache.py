"""A cached reference is the live one; what makes it another is found out, and nothing else makes it be scored again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import TrainerCallback

from betahead.beta.learned import LearnedBeta
from betahead.errors import CacheError, ConfigError
from betahead.reference.columns import ScoringReport
from betahead.train.scoring import ScoringProgress
from betahead.train.trainer import DPOTrainer

NAMES = ("ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl")
LORA = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
ROWS = 14


def trainer(folder: Path, **changes: Any) -> tuple[DPOTrainer, list[ScoringReport]]:
    """A trainer, and the reports of what scoring came to."""
    reports: list[ScoringReport] = []

    def keep(progress: ScoringProgress) -> None:
        if progress.report is not None:
            reports.append(progress.report)

    parts: dict[str, Any] = {
        "model": tiny.qwen2(),
        "train_dataset": tiny.pairs(ROWS),
        "eval_dataset": None,
        "peft_config": None,
        "callbacks": None,
        "beta": LearnedBeta("mlp", ppl_from="reference"),
        "processing_class": tiny.tokenizer(),
    }
    own = {name: changes.pop(name) for name in list(changes) if name in parts}
    settings = {"reference_cache": str(folder / "cache"), "learning_rate": 3e-3, "max_steps": 4, **changes}
    made = DPOTrainer(args=tiny.arguments(folder / "out", **settings), on_scoring=keep, **(parts | own))
    return made, reports


def columns(made: DPOTrainer) -> dict[str, list[float]]:
    return {name: list(made.train_dataset[name]) for name in NAMES}


def steps(made: DPOTrainer) -> list[list[float]]:
    made.train()
    names = ("loss", "beta/mean", "margins/nats", "prompt/log_ppl")
    return [[line[name] for name in names] for line in made.state.log_history if "loss" in line]


@tiny.OLD_NAMES
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_memory_a_new_cache_an_old_cache_and_a_live_reference_are_one_reference(lora: bool, tmp_path: Path) -> None:
    def made(**changes: Any) -> tuple[DPOTrainer, list[ScoringReport]]:
        return trainer(tmp_path, peft_config=LoraConfig(**LORA) if lora else None, **changes)

    memory, _ = made(reference_cache=None)
    new, (built,) = made()
    old, (found,) = made()
    assert (built.found, found.found) == (0, ROWS)
    assert columns(new) == columns(memory)
    assert columns(old) == columns(memory)
    wanted = steps(memory)
    assert steps(new) == wanted
    assert steps(old) == wanted
    live, _ = made(precompute_ref_log_probs=False, reference_cache=None)
    for step, wanted_step in zip(steps(live), wanted, strict=True):
        assert step == pytest.approx(wanted_step, rel=1e-5, abs=1e-5)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose cache holds every row."""
    folder = tmp_path_factory.mktemp("filled")
    trainer(folder)
    return folder


def as_ids(*, counted: bool) -> Dataset:
    """The same pairs as token ids; the last prompt token counts for log PPL or does not."""
    tokens = tiny.tokenizer()
    rows: list[dict[str, Any]] = []
    for row in tiny.pairs(ROWS):
        ids: list[int] = tokens(row["prompt"])["input_ids"]
        answers = {f"{name}_ids": [*tokens(row[name])["input_ids"], 1] for name in ("chosen", "rejected")}
        rows.append({"prompt_ids": ids, **answers, "ppl_mask": [False, *([True] * (len(ids) - 2)), counted]})
    return Dataset.from_list(rows)


HITS: dict[str, Callable[[], dict[str, Any]]] = {
    "learning rate": lambda: {"learning_rate": 0.5},
    "seed": lambda: {"seed": 9, "data_seed": 4},
    "epochs": lambda: {"max_steps": -1, "num_train_epochs": 7},
    "batch size": lambda: {"per_device_train_batch_size": 5, "per_device_eval_batch_size": 3},
    "pairs per pass": lambda: {"precompute_ref_batch_size": 1},
    "accumulation": lambda: {"gradient_accumulation_steps": 4},
    "activation checkpointing": lambda: {"gradient_checkpointing": True},
    "output folder": lambda: {"output_dir": "runs/elsewhere"},
    "order": lambda: {"train_dataset": tiny.pairs(ROWS).shuffle(seed=5)},
    "a shard": lambda: {"train_dataset": tiny.pairs(ROWS).shard(3, 1)},
    "rows that were tokenized before": lambda: {"train_dataset": as_ids(counted=True)},
    "held out instead": lambda: {"train_dataset": None, "eval_dataset": tiny.pairs(ROWS)},
    "labels swapped": lambda: {
        "train_dataset": tiny.pairs(ROWS).rename_columns({"chosen": "rejected", "rejected": "chosen"})
    },
    "another rule": lambda: {"beta": LearnedBeta("linear", form="direct", ppl_from="reference", initial_beta=0.3)},
    "a fixed beta": lambda: {"beta": 0.2},
    "a loss": lambda: {"beta": 0.2, "loss_type": "ipo"},
    "an adapter": lambda: {"peft_config": LoraConfig(**LORA)},
    "a second model": lambda: {"model": tiny.llama(), "ref": tiny.qwen2()},
    "dropout": lambda: {"model": tiny.qwen2(attention_dropout=0.3), "disable_dropout": False},
    "a longer max_length": lambda: {"max_length": 2048},
}


@tiny.OLD_NAMES
@pytest.mark.parametrize("change", HITS)
def test_what_is_not_part_of_a_score_finds_every_row(change: str, filled: Path, tmp_path: Path) -> None:
    changes = HITS[change]()
    if "output_dir" in changes:
        changes = {"output_dir": str(tmp_path)}
    if "ref" in changes:
        reports: list[ScoringReport] = []
        DPOTrainer(
            changes["model"],
            changes["ref"],
            tiny.arguments(tmp_path, reference_cache=str(filled / "cache")),
            train_dataset=tiny.pairs(ROWS),
            processing_class=tiny.tokenizer(),
            beta=LearnedBeta(ppl_from="reference"),
            on_scoring=lambda told: reports.append(told.report) if told.report else None,
        )
    else:
        _, reports = trainer(filled, **changes)
    assert [report.found for report in reports] == [report.rows for report in reports]
    assert sum(report.rows for report in reports) >= ROWS // 3


def nudged() -> Any:
    model = tiny.qwen2()
    with torch.no_grad():
        model.get_parameter("model.layers.1.mlp.up_proj.weight")[3, 5] += 1e-6
    return model


MISSES: dict[str, Callable[[], dict[str, Any]]] = {
    "a weight": lambda: {"model": nudged()},
    "the weights' dtype": lambda: {"model": tiny.qwen2().to(torch.bfloat16)},
    "mixed precision": lambda: {"bf16": True},
    "a setting of the model": lambda: {
        "model": tiny.qwen2(rope_parameters={"rope_type": "default", "rope_theta": 9.0})
    },
    "an end of turn": lambda: {"processing_class": other_end()},
    "a template": lambda: {"processing_class": templated()},
    "counted tokens": lambda: {"train_dataset": as_ids(counted=False)},
    "a cut of every answer": lambda: {
        "max_length": 7,
        "train_dataset": tiny.pairs(ROWS).map(lambda row: {name: row[name] + LONG[name] for name in LONG}),
    },
}
LONG = {"chosen": " word1" * 9, "rejected": " word2" * 9}


def other_end() -> Any:
    import copy

    tokens = copy.deepcopy(tiny.tokenizer())
    tokens.eos_token = "word44"
    return tokens


def templated() -> Any:
    import copy

    tokens = copy.deepcopy(tiny.tokenizer())
    tokens.chat_template = (
        "{% for m in messages %}word7 {{ m.content }} <eos> {% endfor %}{% if add_generation_prompt %}word8 {% endif %}"
    )
    return tokens


@pytest.mark.parametrize("change", MISSES)
def test_what_is_part_of_a_score_finds_no_row(change: str, filled: Path, tmp_path: Path) -> None:
    changes = MISSES[change]()
    if change == "a cut of every answer":
        trainer(tmp_path, **(changes | {"max_length": 64}))
        _, (report,) = trainer(tmp_path, **changes)
    else:
        # A copy, so that no case can fill the cache for another one.
        cache = tmp_path / "cache"
        for shard in (filled / "cache").rglob("*.parquet"):
            place = cache / shard.relative_to(filled / "cache")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(shard.read_bytes())
        _, (report,) = trainer(tmp_path, **changes)
    assert (report.rows, report.found) == (ROWS, 0)


def test_a_trained_policy_scores_nothing_and_what_was_scored_before_is_found(tmp_path: Path) -> None:
    known, new = tiny.pairs(6, seed=7), tiny.pairs(5, seed=8)
    before, _ = trainer(tmp_path, train_dataset=known)
    made, _ = trainer(tmp_path)
    made.train()
    size = len(made.scoring.cached.cache)
    with pytest.raises(ConfigError, match=r"^`eval_dataset` must be given to DPOTrainer before training, because the"):
        made.evaluate(new)
    assert len(made.scoring.cached.cache) == size
    made.evaluate(known)
    assert columns_of(made, known) == columns(before)


def columns_of(made: DPOTrainer, pairs: Dataset) -> dict[str, list[float]]:
    from betahead.train.parts import tokenized

    scored = made._with_reference(tokenized(pairs, tiny.tokenizer(), made.settings, made.rule))
    return {name: list(scored[name]) for name in NAMES}


@tiny.OLD_NAMES
def test_new_rows_after_training_an_adapter_have_the_scores_and_keys_of_the_start(tmp_path: Path) -> None:
    new = tiny.pairs(5, seed=8)
    made, reports = trainer(tmp_path, peft_config=LoraConfig(**LORA))
    made.train()
    made.evaluate(new)
    assert [report.found for report in reports] == [0, 0]
    fresh, (report,) = trainer(tmp_path, train_dataset=new)
    assert report.found == report.rows == 5
    elsewhere, _ = trainer(tmp_path / "other", train_dataset=new)
    assert columns(fresh)["ref_chosen_logps"] == pytest.approx(columns(elsewhere)["ref_chosen_logps"], rel=1e-5)


@tiny.OLD_NAMES
@pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers with bias configured:UserWarning")
def test_an_adapter_that_trains_biases_of_the_model_cannot_fill_a_cache_later(tmp_path: Path) -> None:
    parts = {"model": tiny.llama(attention_bias=True), "peft_config": LoraConfig(**LORA, bias="all")}
    made, _ = trainer(tmp_path, **parts)
    made.train()
    with pytest.raises(ConfigError, match="because the reference that it is to be scored with has been trained since"):
        made.evaluate(tiny.pairs(5, seed=8))
    parts = {"model": tiny.llama(attention_bias=True), "peft_config": LoraConfig(**LORA, bias="all")}
    with pytest.raises(CacheError, match=r"^a reference that scores rows as they come must not be trained"):
        trainer(tmp_path, precompute_ref_log_probs=False, **parts)


@tiny.OLD_NAMES
def test_weights_of_the_reference_that_changed_behind_its_back_are_found_out(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path, peft_config=LoraConfig(**LORA))
    made.train()
    with torch.no_grad():
        made.model.policy.get_base_model().model.norm.weight[0] += 1
    with pytest.raises(CacheError, match=r"^a reference must not be trained before it has scored the pairs"):
        made.evaluate(tiny.pairs(5, seed=8))


class _Evaluates(TrainerCallback):
    """Evaluates pairs when training begins."""

    def __init__(self, pairs: Dataset) -> None:
        self.pairs = pairs
        self.trainer: Any = None

    def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
        if self.trainer is not None:
            self.trainer.evaluate(self.pairs)


def test_weights_that_were_changed_before_the_first_step_fill_no_cache(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path)
    size = len(made.scoring.cached.cache)
    with torch.no_grad():
        for weight in made.model.policy.parameters():
            weight.add_(0.3)
    with pytest.raises(CacheError, match=r"^a reference must not be trained before it has scored the pairs"):
        made.evaluate(tiny.pairs(5, seed=8))
    assert len(made.scoring.cached.cache) == size


@pytest.mark.parametrize("cached", [True, False])
def test_a_second_training_scores_nothing_at_its_beginning_either(cached: bool, tmp_path: Path) -> None:
    watching = _Evaluates(tiny.pairs(5, seed=8))
    made, _ = trainer(tmp_path, callbacks=[watching], **({} if cached else {"reference_cache": None}))
    made.train()
    watching.trainer = made
    with pytest.raises(ConfigError, match=r"^`eval_dataset` must be given to DPOTrainer before training, because the"):
        made.train()


@tiny.OLD_NAMES
def test_rows_scored_as_they_come_are_not_kept_once_the_weights_have_been_changed(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path, precompute_ref_log_probs=False, peft_config=LoraConfig(**LORA))
    with torch.no_grad():
        made.model.policy.get_base_model().model.norm.weight[0] += 1
    with pytest.raises(CacheError, match=r"^a reference must not be trained before it has scored the pairs"):
        made.train()
    assert len(made.scoring.cached.cache) == 0


@tiny.OLD_NAMES
def test_weights_that_were_moved_and_stayed_the_same_go_on_scoring(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path, precompute_ref_log_probs=False, peft_config=LoraConfig(**LORA))
    norm = made.model.policy.get_base_model().model.norm
    norm.weight.data = norm.weight.data.clone()
    made.train()
    assert len(made.scoring.cached.cache) > 0


def test_a_resumed_run_without_its_cache_scores_with_the_weights_of_the_start(tmp_path: Path) -> None:
    first, _ = trainer(tmp_path, save_strategy="steps", save_steps=2)
    first.train()
    for shard in (tmp_path / "cache").rglob("*.parquet"):
        shard.unlink()
    resumed, (report,) = trainer(tmp_path)
    assert report.found == 0
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert columns(resumed) == columns(first)
    again, (report,) = trainer(tmp_path)
    assert report.found == ROWS
    assert columns(again) == columns(first)


@tiny.OLD_NAMES
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_rows_that_are_scored_as_they_come_are_found_the_next_time(lora: bool, tmp_path: Path) -> None:
    def made() -> DPOTrainer:
        torch.manual_seed(0)
        parts = {"peft_config": LoraConfig(**LORA) if lora else None, "eval_dataset": tiny.pairs(5, seed=3)}
        return trainer(tmp_path, precompute_ref_log_probs=False, max_steps=9, **parts)[0]

    first, second = made(), made()
    scored: list[int] = []
    for one in (first, second):
        original = one.scoring.reference.scores

        def counting(batch: Any, original: Any = original) -> Any:
            scored.append(batch.pairs)
            return original(batch)

        one.scoring.reference.scores = counting
    wanted = steps(first)
    # 9 steps of 2 pairs are 14 rows and 4 of them again; those are known by then.
    assert sum(scored) == ROWS
    wanted_loss = first.evaluate()["eval_loss"]
    assert sum(scored) == ROWS + 5
    found = steps(second)
    assert second.evaluate()["eval_loss"] == wanted_loss
    assert found == wanted
    assert sum(scored) == ROWS + 5
