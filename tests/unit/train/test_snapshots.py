from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny_run


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
