"""What every measurement notes, on whatever device and by whatever loop."""

import resource
from typing import Any

from bench.batches import Row, distinct_tokens

IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def peak_bytes() -> int:
    """The largest resident size of this process so far (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_same_rows(trainer: Any, rows: list[Row]) -> None:
    """The trainer holds these ids, in this order, and nothing else."""
    held = [{name: row[name] for name in IDS} for row in trainer.train_dataset]
    assert held == rows, "the trainer's token ids are not the ones that it was given"


def counted(moments: list[float], batches: int, passes: int) -> list[float]:
    """Seconds of the steps that count: all but the first of each pass, which is the short batch to warm up on."""
    assert len(moments) == batches * passes, f"{len(moments)} steps instead of {batches * passes}"
    return [moments[i] - moments[i - 1] for i in range(1, len(moments)) if i % batches]


def walked(batches: list[list[Row]], passes: int) -> dict[str, list[int]]:
    """Pairs and tokens of the steps that count."""
    steps = batches[1:] * passes
    return {
        "step_pairs": [len(batch) for batch in steps],
        "step_tokens": [sum(map(distinct_tokens, batch)) for batch in steps],
    }
