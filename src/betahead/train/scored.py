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


def check_columns(dataset: Dataset, rule: BetaRule, places: Sequence[str] | None = None) -> None:
    """Refuse data without a column that the rule reads, with a number in it that is none, or scored for nothing.

    Args:
        dataset: tokenized records.
        rule: reads them.
        places: where each row stands in its source, for messages; None for its number in the data set.

    Raises:
        DataError: with the column, or with the first such row.
    """
    scored = sorted({"ref_chosen_logps", "ref_rejected_logps"} & set(dataset.column_names))
    if scored and Need.PERTURBED in rule.of_reference:
        raise DataError(
            f"the data must not have the reference's columns with `beta.kind: {rule.kind}`, which asks the reference "
            f"itself at every step, but have {' and '.join(scored)}; remove them."
        )
    for name in sorted(rule.columns):
        if name not in dataset.column_names:
            raise DataError(
                f"the data must have a column `{name}` for `beta.kind: {rule.kind}`, but have none; add it, a number "
                "for each pair, or use another rule."
            )
        values = list(dataset[name])
        numbers = np.asarray([np.nan if value is None else value for value in values], dtype=np.float32)
        positive = name in rule.positive
        fine = np.isfinite(numbers) & ((numbers > 0) | (not positive))
        if not fine.all():
            row, kind = int(fine.argmin()), "positive" if positive else "finite"
            where = f"row {row + 1} of {len(values):,}" if places is None else places[row]
            raise DataError(
                f"`{name}` must be a {kind} number in every row, but is {values[row]!r} in {where}; "
                f"{rule.column_remedy}."
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
