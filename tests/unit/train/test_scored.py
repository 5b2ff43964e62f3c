import gzip
import json
import os
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from datasets import Dataset

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.given import GivenBeta
from betahead.beta.madpo import RewardMarginWeight
from betahead.beta.mallows import DispersionBeta
from betahead.beta.odpo import OffsetTarget
from betahead.data.prepare import prepare_pairs
from betahead.errors import ConfigError, DataError
from betahead.reference.frozen import FrozenReference, wants_of
from betahead.train.scored import check_columns, is_scored
from betahead.train.trainer import DPOTrainer

LINEAR = "correct the column, or use `beta.scale: linear`, which has a place for 0"
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


def test_entropy_is_one_of_the_references_columns_for_a_rule_that_reads_it() -> None:
    columns = FrozenReference(tiny.qwen2(), **wants_of(DispersionBeta())).columns
    assert columns == (*SCORES, "ref_entropy")
    assert is_scored(Dataset.from_list([row | SCORES | {"ref_entropy": 0.5} for row in tiny.records(3)]), columns)
    with pytest.raises(DataError, match=r"^the data must hold all columns of the reference or none, but lack ref_entr"):
        is_scored(scored(), columns)


def test_scores_that_came_with_the_data_are_refused_where_the_reference_itself_is_asked(tmp_path: Path) -> None:
    wanted = (
        "the data must not have the reference's columns with `beta.kind: epsilon_dpo`, which asks the reference itself "
        "at every step, but have ref_chosen_logps and ref_rejected_logps; remove them."
    )
    args = tiny.arguments(tmp_path, precompute_ref_log_probs=False)
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        trainer(tmp_path, scored(), beta=PerturbedBeta(), args=args)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_strength_without_a_logarithm_is_refused_with_its_row(value: float, tmp_path: Path) -> None:
    rows = [row | {"strength": 0.5} for row in tiny.records(6)]
    rows[2]["strength"] = value
    wanted = f"`strength` must be a positive number in every row, but is {value} in row 3 of 6; {LINEAR}."
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        trainer(tmp_path, Dataset.from_list(rows), beta=OffsetTarget())
    assert trainer(tmp_path, Dataset.from_list(rows), beta=OffsetTarget(scale="linear")).train_dataset.num_rows == 6


@pytest.mark.slow
@pytest.mark.skipif("BETAHEAD_DATA" not in os.environ, reason="BETAHEAD_DATA names the folder of real preference data")
def test_real_certainties_are_refused_by_the_line_of_the_one_that_is_zero_and_suit_the_linear_scale() -> None:
    source = f"{os.environ['BETAHEAD_DATA']}/alpaca_eval_pairs.jsonl.gz"
    found = prepare_pairs(source, tiny.tokenizer(), layout="explicit", max_length=4096, max_dropped=0.5)
    strength = np.asarray(found.dataset["strength"])
    assert strength.min() == 0.0 and strength.max() <= 1.0
    place = found.places[int(strength.argmin())]
    wanted = f"`strength` must be a positive number in every row, but is 0.0 in {place}; {LINEAR}."
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        check_columns(found.dataset, OffsetTarget(), found.places)
    with gzip.open(source, "rt", encoding="utf-8") as file:
        line = next(islice(file, int(place.rpartition(":")[2]) - 1, None))
    assert json.loads(line)["strength"] == 0.0
    check_columns(found.dataset, OffsetTarget(scale="linear"), found.places)


def test_a_column_that_a_rule_reads_must_be_there(tmp_path: Path) -> None:
    wanted = (
        "the data must have a column `reward_margin` for `beta.kind: madpo`, but have none; add it, a number for each "
        "pair, or use another rule."
    )
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        trainer(tmp_path, tiny.pairs(4), beta=RewardMarginWeight())
