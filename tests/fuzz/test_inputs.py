"""Broken inputs through every door: each ends in valid records or in one printable sentence, and leaves nothing behind.

The full form, twelve thousand inputs, is `python -m bench.fuzz`.
"""

from collections import Counter

import pytest

from bench.fuzz import fuzzed, shared_out
from betahead.runs.quiet import quieted


def outcomes(inputs, family, folder):
    """What became of the inputs of a family, all targets together; the slowest input's seconds."""
    with quieted():
        tallies = [fuzzed(target, share) for target, share in shared_out(inputs, [family], folder)]
    return sum((tally.outcomes for tally in tallies), Counter()), max(tally.slowest for tally in tallies)


FAMILIES = ["rows/", "bytes/", "texts", "config/", "plan/", "overrides"]


@pytest.mark.parametrize(("family", "inputs"), list(zip(FAMILIES, [250, 150, 30, 120, 60, 60], strict=True)))
def test_broken_inputs_end_in_records_or_in_a_sentence(family, inputs, tmp_path):
    found, slowest = outcomes(inputs, family, tmp_path)
    assert found.total() >= inputs // 2
    assert found["valid"] and set(found) <= {"valid", "DataError", "ConfigError"}
    assert slowest < 30


def test_training_on_broken_rows_ends_in_a_run_or_in_a_sentence(tmp_path):
    found, _ = outcomes(6, "train", tmp_path)
    assert found["valid"] and set(found) <= {"valid", "DataError", "ConfigError"}


def test_damaged_run_folders_end_in_a_run_a_page_or_a_sentence(tmp_path):
    found, slowest = outcomes(40, "run/", tmp_path)
    assert found["valid"] and found["DataError"] and set(found) <= {"valid", "DataError", "ConfigError"}
    assert slowest < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "inputs"), [("rows/", 4500), ("bytes/", 2500), ("config/", 2000), ("plan/", 1000), ("run/", 600)]
)
def test_thousands_of_broken_inputs_end_in_records_or_in_a_sentence(family, inputs, tmp_path):
    found, _ = outcomes(inputs, family, tmp_path)
    assert found.total() >= inputs // 2
