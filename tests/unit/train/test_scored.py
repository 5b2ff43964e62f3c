import re
from pathlib import Path
from typing import Any

import pytest
import tiny
from datasets import Dataset

from betahead.beta.given import GivenBeta
from betahead.errors import ConfigError, DataError
from betahead.train.scored import is_scored
from betahead.train.trainer import DPOTrainer

SCORES: dict[str, Any] = {"ref_chosen_logps": -3.0, "ref_rejected_logps": -4.0}


def scored(**second: Any) -> Dataset:
    """Six tokenized pairs with the reference's columns, the second one changed."""
    rows = [row | SCORES for row in tiny.records(6)]
    rows[1] |= second
    return Dataset.from_list(rows)


def trainer(folder: Path, data: Any, **parts: Any) -> DPOTrainer:
    args = parts.pop("args", None) or tiny.arguments(folder)
    model = parts.pop("model", None) or tiny.qwen2()
    return DPOTrainer(model, args=args, train_dataset=data, processing_class=tiny.tokenizer(), **parts)


def test_a_data_set_is_scored_when_every_column_that_is_read_is_there() -> None:
    assert is_scored(scored(), tuple(SCORES))
    assert not is_scored(Dataset.from_list(tiny.records(3)), tuple(SCORES))
    missing = (
        "the data must hold all columns of the reference or none, but lack ref_log_ppl beside ref_chosen_logps, "
        "ref_rejected_logps; add them, or remove the others to have the reference scored."
    )
    with pytest.raises(DataError, match=f"^{re.escape(missing)}$"):
        is_scored(scored(), (*SCORES, "ref_log_ppl"))


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "None"), (float("-inf"), "-inf"), (float("nan"), "nan"), (-1e300, "-inf")]
)
def test_a_score_that_is_no_number_is_refused_with_its_row(value: float | None, shown: str, tmp_path: Path) -> None:
    wanted = (
        f"`ref_chosen_logps` must be a finite number in every row, but is {shown} in row 2 of 6; complete the column, "
        "or remove the reference's columns to have them scored."
    )
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        trainer(tmp_path, scored(ref_chosen_logps=value))
    held_out = trainer(tmp_path, tiny.pairs(4))
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        held_out.evaluate(scored(ref_chosen_logps=value))


def test_batches_without_the_references_columns_are_not_scored_by_the_policy_in_training(tmp_path: Path) -> None:
    from betahead.data.collate import PairCollator

    def forgetful(rows: list[dict[str, Any]]) -> Any:
        batch = PairCollator(pad_token_id=0)(rows)
        return {name: value for name, value in batch.items() if not name.startswith("ref_")}

    held = trainer(tmp_path, tiny.pairs(8), data_collator=forgetful)
    with pytest.raises(ConfigError, match=r"^the batches of `data_collator` must hold the reference's columns, becau"):
        held.train()
    live = trainer(
        tmp_path, tiny.pairs(8), data_collator=forgetful, args=tiny.arguments(tmp_path, precompute_ref_log_probs=False)
    )
    live.train()
    assert live.state.global_step == 5


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "None"), (-2.0, "-2.0"), (0.0, "0.0"), (float("inf"), "inf"), (float("nan"), "nan")]
)
def test_a_given_beta_that_is_none_is_refused_with_its_row(value: float | None, shown: str, tmp_path: Path) -> None:
    rows = [row | {"given_beta": 0.5} for row in tiny.records(6)]
    rows[3]["given_beta"] = value
    wanted = f"`given_beta` must be a positive number in every row, but is {shown} in row 4 of 6; correct the column."
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        trainer(tmp_path, Dataset.from_list(rows), beta=GivenBeta())
    # A rule that does not read it does not mind.
    assert trainer(tmp_path, Dataset.from_list(rows)).train_dataset.num_rows == 6


def test_a_given_beta_comes_with_the_data_to_the_trainer(tmp_path: Path) -> None:
    rows = [row | {"given_beta": 0.5 * (number + 1)} for number, row in enumerate(tiny.records(2))]
    made = trainer(tmp_path, Dataset.from_list(rows), beta=GivenBeta(0.1))
    made.train()
    logged = made.state.log_history[0]
    assert (logged["beta/min"], logged["beta/max"]) == pytest.approx((0.05, 0.1))
