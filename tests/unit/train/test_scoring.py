"""Where a trainer keeps the reference's scores, and what it says about it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig, get_peft_model

from betahead.errors import ConfigError, DataError
from betahead.reference.columns import ScoringReport
from betahead.train.scoring import ScoringProgress, cache_place
from betahead.train.trainer import DPOTrainer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "betahead" / "reference"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in tiny.pairs(6)), encoding="utf-8")
    return path


def trainer(folder: Path, data: Any, **changes: Any) -> DPOTrainer:
    return DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, **changes),
        train_dataset=data,
        processing_class=tiny.tokenizer(),
    )


def test_a_cache_lies_beside_a_file_in_the_users_folder_or_where_it_was_named(
    home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIRS", str(file.parent))
    beside = file.with_name("pairs.jsonl.refcache")
    for data in (str(file), file, "$PAIRS/pairs.jsonl"):
        assert cache_place(None, data) == cache_place("auto", data) == beside
    assert cache_place(None, "org/data") == cache_place("auto", "org/data") == home
    assert cache_place(None, tiny.pairs(2)) is None
    assert cache_place("auto", tiny.pairs(2)) == home
    assert cache_place("$PAIRS/named", tiny.pairs(2)) == file.parent / "named"


def test_a_variable_that_is_not_set_is_a_sentence() -> None:
    with pytest.raises(DataError, match="the environment variable NO_SUCH_VARIABLE is not set"):
        cache_place("$NO_SUCH_VARIABLE/cache", tiny.pairs(2))


def test_data_by_path_are_cached_beside_it_and_the_second_trainer_says_so(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for found in (0, 6):
        made = trainer(tmp_path / "out", str(file), disable_tqdm=False)
        assert made.train_dataset.num_rows == 6
        where = tmp_path / "pairs.jsonl.refcache"
        forward, line = capsys.readouterr().out.splitlines()
        assert line == f"reference  {found} of 6 rows found, {6 - found} scored, in {where}"
        assert forward == f"forward    {made.road.line()}"
        assert re.search(r"^prompt and both answers in one row; .* \(ratio 1\.\d\d\)$", made.road.line())
    trainer(tmp_path / "out", str(file))
    assert capsys.readouterr().out == ""


def test_data_in_memory_leave_nothing_behind(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = trainer(tmp_path / "out", tiny.pairs(4), disable_tqdm=False)
    assert made.scoring.cached is None
    assert not home.exists()
    assert capsys.readouterr().out == f"forward    {made.road.line()}\n"


def test_a_live_reference_keeps_nothing_unless_a_folder_is_named(file: Path, tmp_path: Path) -> None:
    made = trainer(tmp_path / "out", str(file), precompute_ref_log_probs=False)
    assert made.scoring.cached is None
    assert made.data_collator.collate is made.collate
    named = trainer(tmp_path / "out", str(file), precompute_ref_log_probs=False, reference_cache=str(tmp_path / "c"))
    assert named.scoring.cached is not None
    assert named.data_collator.collate is not named.collate


def test_data_that_are_streamed_are_found_too(tmp_path: Path) -> None:
    rows = [dict(row) for row in tiny.pairs(5)]
    settings = {"reference_cache": tmp_path / "cache", "precompute_ref_batch_size": 1}
    listed = trainer(tmp_path / "out", rows, **settings).train_dataset
    streamed = trainer(tmp_path / "out", IterableDataset.from_generator(lambda: iter(rows)), **settings)
    assert list(streamed.train_dataset["ref_chosen_logps"]) == list(listed["ref_chosen_logps"])
    assert len(list((tmp_path / "cache").rglob("*.parquet"))) == 1


def test_whoever_asks_is_told_how_far_scoring_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[ScoringProgress] = []
    DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(tmp_path, precompute_ref_batch_size=2, disable_tqdm=False),
        train_dataset=tiny.pairs(5),
        processing_class=tiny.tokenizer(),
        on_scoring=told.append,
    )
    assert [(one.pairs, one.of, one.report) for one in told] == [
        (2, 5, None),
        (4, 5, None),
        (5, 5, None),
        (5, 5, ScoringReport(rows=5, found=0)),
    ]
    assert capsys.readouterr().out == ""
    assert told[-1].report is not None
    assert told[-1].report.line() == "5 rows scored"
    seconds = [one.seconds for one in told]
    assert seconds == sorted(seconds)


def test_after_training_rows_that_nobody_scored_are_refused_also_without_a_cache(tmp_path: Path) -> None:
    made = trainer(tmp_path, Dataset.from_list(tiny.records(6)))
    made.train()
    with pytest.raises(ConfigError, match="has been trained since"):
        made.scoring.columns(Dataset.from_list(tiny.records(3)), trained=True)


@tiny.OLD_NAMES
@pytest.mark.filterwarnings("ignore:Careful, disabling adapter layers with bias:UserWarning")
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_an_adapter_that_trains_the_model_itself_cannot_leave_its_reference_to_later(bias: Any, tmp_path: Path) -> None:
    def made(bias: Any, **settings: Any) -> DPOTrainer:
        return DPOTrainer(
            tiny.qwen2(),
            args=tiny.arguments(tmp_path, max_steps=1, **settings),
            train_dataset=tiny.pairs(6),
            processing_class=tiny.tokenizer(),
            peft_config=LoraConfig(r=2, target_modules=["q_proj"], bias=bias),
        )

    wanted = (
        "`precompute_ref_log_probs` must be True for an adapter that trains weights of the model itself, such as "
        '`bias="all"`, because turning it off would not give back the reference; set it, or use `bias="none"`.'
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        made(bias, precompute_ref_log_probs=False)
    made("none", precompute_ref_log_probs=False).train()
    before = made(bias)
    before.train()
    refused = (
        "`eval_dataset` must be given to DPOTrainer before training, because the reference that it is to be scored "
        'with has been trained since; or use an adapter with bias="none".'
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(refused)}$"):
        before.evaluate(tiny.pairs(3, seed=9))


@tiny.OLD_NAMES
def test_new_pairs_are_scored_by_the_copy_of_an_adapter_that_came_with_the_model(tmp_path: Path) -> None:
    def trained(**given: Any) -> DPOTrainer:
        torch.manual_seed(0)
        made = DPOTrainer(
            get_peft_model(tiny.qwen2(), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)),
            args=tiny.arguments(tmp_path, max_steps=1),
            train_dataset=tiny.pairs(6),
            processing_class=tiny.tokenizer(),
            **given,
        )
        made.train()
        return made

    pairs = tiny.pairs(3, seed=9)
    found, wanted = trained().evaluate(pairs), trained(eval_dataset=pairs).evaluate()
    assert found["eval_margins/nats"] != 0.0
    for name in ("eval_loss", "eval_margins/nats", "eval_logps/chosen"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-5)
