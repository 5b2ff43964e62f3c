"""Rows stream: what a million of them takes does not grow with their number as their texts do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import json, resource, sys
from betahead.data.describe import describe
from betahead.data.prepare import prepare_pairs
from betahead.worlds.small_tokenizer import trained_tokenizer

tokenizer = trained_tokenizer(["a b c user assistant"], vocab_size=262, max_length=64)
describe("few.jsonl")
prepare_pairs("few.jsonl", tokenizer, max_length=64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
kept = describe(sys.argv[1]).summary.kept
counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = len(prepare_pairs(sys.argv[1], tokenizer, max_length=64).dataset)
prepared = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([kept, rows, (counted - before) / 1024, (prepared - before) / 1024]))
"""


def written(path, rows):
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = {"prompt": f"Is it {number}?", "chosen": "It is.", "rejected": f"No {number % 7}."}
            file.write(json.dumps(row) + "\n")


def measured(folder, rows):
    """Pairs counted and prepared, and MiB that either took beyond what a few pairs take."""
    written(folder / "few.jsonl", 100)
    written(folder / "many.jsonl", rows)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "many.jsonl"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
        capture_output=True,
        text=True,
        timeout=580,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_fifty_thousand_rows_take_little_memory(tmp_path):
    kept, prepared, to_count, to_prepare = measured(tmp_path, 50_000)
    assert kept == prepared == 50_000
    assert to_count < 30
    assert to_prepare < 100


@pytest.mark.slow
def test_a_million_rows_take_little_memory(tmp_path):
    kept, prepared, to_count, to_prepare = measured(tmp_path, 1_000_000)
    assert kept == prepared == 1_000_000
    assert to_count < 300
    assert to_prepare < 800
