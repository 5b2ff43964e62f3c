import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny
import torch
from datasets import Dataset

from betahead.beta.learned import LearnedBeta
from betahead.data.collate import PairCollator
from betahead.data.lengths import tokens_of_rows
from betahead.errors import ConfigError
from betahead.train.order import grouped_order
from betahead.train.snapshots import PromptSnapshots
from betahead.train.trainer import DPOTrainer

RECORDS = Dataset.from_list(
    [row | {"prompt": f"prompt {i}", "domain": "none"} for i, row in enumerate(tiny.records(22, seed=4))]
)


def trainer_for(folder: Path, beta: Any = None, **changes: Any) -> DPOTrainer:
    parts: dict[str, Any] = {"train_dataset": RECORDS, "eval_dataset": None, "data_collator": None}
    own = {name: changes.pop(name) for name in list(changes) if name in parts}
    return DPOTrainer(
        tiny.qwen2(),
        tiny.qwen2(1),
        tiny.arguments(folder, **changes),
        processing_class=tiny.tokenizer(),
        beta=beta,
        **(parts | own),
    )


class Plain:
    """A collator that does not say how many tokens it makes."""

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        return PairCollator(pad_token_id=0)(pairs)


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("max_batch_tokens", {"max_batch_tokens": 64}),
        ("train_sampling_strategy", {"train_sampling_strategy": "group_by_length"}),
    ],
)
def test_a_collator_that_counts_no_tokens_is_refused_where_they_are_to_be_counted(
    key: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    trainer_for(tmp_path, data_collator=Plain(), max_steps=1).train()
    message = re.escape(
        f"`data_collator` must have a method pass_tokens with `{key}`, but Plain has none; it takes a list of "
        "betahead.data.passes.PairTokens and returns the tokens of a pass."
    )
    with pytest.raises(ConfigError, match=f"^{message}$"):
        trainer_for(tmp_path, data_collator=Plain(), **settings)


def test_pairs_above_the_budget_are_counted_before_training(tmp_path: Path) -> None:
    sizes = [2 * pair.longer_row for pair in tokens_of_rows(RECORDS)]
    found = trainer_for(tmp_path, max_batch_tokens=18, forward="separate").oversized
    assert found is not None
    assert (found.pairs, found.largest) == (sum(size > 18 for size in sizes), max(sizes))
    assert trainer_for(tmp_path, max_batch_tokens=max(sizes), forward="separate").oversized is None
    # The shared road reads a prompt once.
    packed = [pair.prompt + pair.chosen + pair.rejected for pair in tokens_of_rows(RECORDS)]
    found = trainer_for(tmp_path, max_batch_tokens=12, forward="shared").oversized
    assert found is not None
    assert (found.pairs, found.largest) == (sum(size > 12 for size in packed), max(packed))
    assert trainer_for(tmp_path).oversized is None


@pytest.mark.parametrize("budget", [1, 50])
def test_a_budget_changes_nothing_that_is_measured_on_held_out_pairs(budget: int, tmp_path: Path) -> None:
    whole, cut = (
        trainer_for(tmp_path, LearnedBeta("transformer"), eval_dataset=RECORDS.select(range(7)), max_batch_tokens=most)
        for most in (None, budget)
    )
    for trainer in (whole, cut):
        tiny.scattered(trainer.rule, 0.2)
    timed = ("runtime", "per_second", "preparation_time")
    wanted = {name: value for name, value in whole.evaluate().items() if not name.endswith(timed)}
    found = cut.evaluate()
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    assert found["eval_loss"] == pytest.approx(wanted["eval_loss"], rel=1e-6)


def test_the_tokens_of_every_pass_are_counted(tmp_path: Path) -> None:
    settings = {"include_num_input_tokens_seen": "non_padding", "max_steps": 2, "per_device_train_batch_size": 5}
    seen: list[int] = []
    for budget in (None, 1):
        trainer = trainer_for(tmp_path, max_batch_tokens=budget, **settings)
        trainer.train()
        seen.append(trainer.state.num_input_tokens_seen)
    assert seen[0] == seen[1] > 0


def orders(trainer: DPOTrainer, epochs: int = 2) -> list[list[str]]:
    """The prompts of each epoch, in the order in which the loader brings them."""
    loader = trainer.get_train_dataloader()
    found: list[list[str]] = []
    for epoch in range(epochs):
        trainer.state.epoch = float(epoch)
        loader.set_epoch(epoch)
        found.append([row for batch in loader for part in batch["passes"] for row in part])
    return found


class Rows(PairCollator):
    """Keeps the ids of the records and makes no tensors."""

    def __call__(self, pairs: Sequence[Mapping[str, Any]]) -> Any:
        return {pair["prompt_id"]: 0 for pair in pairs}


@pytest.mark.parametrize("batch", [(4, 1), (2, 2), (1, 4)], ids=str)
def test_pairs_grouped_by_length_come_in_whole_steps_of_the_stable_order(
    batch: tuple[int, int], tmp_path: Path
) -> None:
    size, accumulate = batch
    collate = Rows(pad_token_id=0)
    trainer = trainer_for(
        tmp_path,
        data_collator=collate,
        train_sampling_strategy="group_by_length",
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulate,
        precompute_ref_log_probs=False,
        seed=3,
    )
    lengths = [collate.pass_tokens([pair]) for pair in tokens_of_rows(RECORDS)]
    wanted = [[str(row) for row in grouped_order(lengths, 4, seed=3, epoch=epoch)] for epoch in (0, 1)]
    assert orders(trainer) == wanted
    assert wanted[0] != wanted[1]


def test_the_order_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data_collator": Rows(pad_token_id=0),
        "train_sampling_strategy": "group_by_length",
        "precompute_ref_log_probs": False,
    }
    alone = trainer_for(tmp_path, **settings)
    many = trainer_for(tmp_path, dataloader_num_workers=2, **settings)
    assert orders(many) == orders(alone)


def test_pairs_to_evaluate_keep_their_order(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path,
        data_collator=Rows(pad_token_id=0),
        train_sampling_strategy="group_by_length",
        precompute_ref_log_probs=False,
        eval_dataset=RECORDS.select(range(6)),
    )
    batches = list(trainer.get_eval_dataloader())
    assert [row for batch in batches for part in batch["passes"] for row in part] == list("012345")


def test_a_run_cut_into_passes_and_grouped_by_length_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "max_batch_tokens": 40,
        "train_sampling_strategy": "group_by_length",
        "per_device_train_batch_size": 4,
        "save_strategy": "steps",
        "save_steps": 8,
        "max_steps": 10,  # six steps an epoch
    }

    def rule() -> LearnedBeta:
        return LearnedBeta("mlp", learning_rate=0.05, prior_weight=3.0)

    whole = trainer_for(tmp_path / "run", rule(), **settings)
    whole.train()
    resumed = trainer_for(tmp_path / "again", rule(), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-8"))
    assert whole.rule.state_dict()["mode.level"].item() != 0.0
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=1e-6, atol=1e-7, msg=name)


@pytest.mark.parametrize("budget", [1, 40])
def test_a_budget_changes_nothing_in_the_snapshots_of_prompts(budget: int, tmp_path: Path) -> None:
    tables: list[dict[str, list[Any]]] = []
    for most in (None, budget):
        trainer = trainer_for(tmp_path, LearnedBeta(), max_batch_tokens=most)
        tiny.scattered(trainer.rule, 0.2)
        path = tmp_path / f"{most}.parquet"
        records = RECORDS.select(range(7))
        taken = PromptSnapshots(trainer.model, records, trainer.reference, trainer.data_collator, path, batch_size=5)
        trainer.state.max_steps = 4
        taken.on_train_begin(trainer.args, trainer.state, trainer.control)
        tables.append(pq.read_table(path).to_pydict())
    whole, cut = tables
    assert cut["prompt_id"] == whole["prompt_id"] == list("0123456")
    for name in ("log_ppl", "f", "beta", "margin"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-5), name
