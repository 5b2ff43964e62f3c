"""Columns of a data set that training reads: whether the reference has spoken already, and what a rule is given."""

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from betahead.beta.rule import BetaRule, Need
from betahead.errors import DataError


def is_scored(dataset: Dataset, columns: Sequence[str]) -> bool:
    """Whether the data set holds every column of the reference that the rule and the loss read.

    Args:
        dataset: tokenized records.
        columns: what they read.

    Raises:
        DataError: when it holds some of them and not others, or one without a finite number in every row.
    """
    wanted = set(columns)
    there = wanted & set(dataset.column_names)
    if there and there != wanted:
        missing = ", ".join(sorted(wanted - there))
        raise DataError(
            f"the data must hold all columns of the reference or none, but lack {missing} beside "
            f"{', '.join(sorted(there))}; add them, or remove the others to have the reference scored."
        )
    for name in sorted(there):
        _check_column(dataset, name)
    return bool(there)


def check_given_beta(dataset: Dataset, rule: BetaRule) -> None:
    """Refuse a column of β with a number that is none, for a rule that reads it.

    Raises:
        DataError: with the first such row.
    """
    if Need.GIVEN_BETA not in rule.needs or "given_beta" not in dataset.column_names:
        return
    values = list(dataset["given_beta"])
    numbers = np.asarray([np.nan if value is None else value for value in values], dtype=np.float32)
    fine = np.isfinite(numbers) & (numbers > 0)
    if not fine.all():
        row = int(fine.argmin())
        raise DataError(
            f"`given_beta` must be a positive number in every row, but is {values[row]!r} in row {row + 1} of "
            f"{len(values):,}; correct the column."
        )


def _check_column(dataset: Dataset, name: str) -> None:
    """A null or infinite score would leave its batch without a reference, or without a loss."""
    values = list(dataset[name])
    finite = np.isfinite(np.asarray([np.nan if value is None else value for value in values], dtype=np.float32))
    if not finite.all():
        row = int(finite.argmin())
        raise DataError(
            f"`{name}` must be a finite number in every row, but is {values[row]!r} in row {row + 1} of "
            f"{len(values):,}; complete the column, or remove the reference's columns to have them scored."
        )
