from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_run

from betahead.errors import DataError
from betahead.train.snapshots import PromptSnapshots


@pytest.mark.parametrize(
    ("steps", "taken"),
    [
        (1, [(0, 0), (1, 1)]),
        (2, [(0, 0), (0.5, 1), (1, 2)]),
        (3, [(0, 0), (0.25, 1), (0.5, 2), (1, 3)]),
        (6, [(0, 0), (0.25, 2), (0.5, 3), (0.75, 5), (1, 6)]),
    ],
)
def test_a_snapshot_is_labelled_by_a_share_of_training_that_was_done(
    steps: int, taken: list[tuple[float, int]], tmp_path: Path
) -> None:
    run = tiny_run.finished_run(tmp_path, f"train.max_steps={steps}", "evaluate.prompts=2", "evaluate.samples=0")
    rows = pq.read_table(run.prompts).to_pylist()
    assert sorted({(row["progress"], row["step"]) for row in rows}) == taken


def test_rows_before_a_checkpoint_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    nothing: Any = None  # no model is looked at before the rows are there
    path = tmp_path / "prompts.parquet"
    path.write_bytes(b"PAR1 is no table")
    snapshots = PromptSnapshots(nothing, nothing, nothing, nothing, path, batch_size=1)
    with pytest.raises(DataError) as caught:
        snapshots.load_state_dict({"taken": 1, "rows": 3, "basis": None})
    assert str(caught.value).startswith(f"`{path}` must hold the snapshots before the checkpoint, but cannot be read (")
    assert str(caught.value).endswith("); restore the file, or begin a new run.")
