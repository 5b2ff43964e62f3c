"""Rows of whatever the user names: a file, a folder of `save_to_disk`, a data set of the Hub, an object in memory."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetsError

from betahead.data.files import file_rows, has_known_ending
from betahead.data.paths import expanded, path_kind
from betahead.data.rows import Row, named, shown
from betahead.data.saved import first_line, is_saved, saved_splits
from betahead.errors import DataError, printable

Source = (
    str
    | os.PathLike[str]
    | datasets.Dataset
    | datasets.IterableDataset
    | datasets.DatasetDict
    | datasets.IterableDatasetDict
    | Sequence[Mapping[str, Any]]
)

logger = logging.getLogger(__name__)

# Rows of a stream between lines that say how many have been read.
_TOLD_EVERY = 100_000
_HUB_NAME = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(:(?P<split>[\w\[\]%:+.-]+))?")


def source_rows(source: Source, split: str = "train") -> Iterator[Row]:
    """The rows of a source, in order, each with its place.

    Args:
        source: a path (with `~` and `$VARIABLES`), a Hub name such as `org/data` or `org/data:split`, a data set of
            the `datasets` library, or a list of dicts.
        split: which split to read where a source has several; a split in the name wins.

    Raises:
        DataError: a source that cannot be read, naming it (and the line) and the remedy.
    """
    if isinstance(source, str | os.PathLike):
        yield from _named_rows(os.fspath(source), split)
        return
    if isinstance(source, Mapping):
        source = _chosen_split(source, split, "the data set")
    if not isinstance(source, datasets.Dataset | datasets.IterableDataset | Sequence):
        raise DataError(
            f"the preference data must be a path, a Hub name, a data set or a list of dicts, but is {shown(source)} "
            "instead."
        )
    yield from _numbered(source, "")


def source_name(source: Source) -> str:
    """How errors and summaries call a source."""
    return printable(os.fspath(source)) if isinstance(source, str | os.PathLike) else "the data set"


def _named_rows(name: str, split: str) -> Iterator[Row]:
    if not name.strip():
        raise DataError("the preference data must be a path or a Hub name, but is an empty text instead.")
    path = Path(expanded(name))
    shown_path = printable(str(path))
    if is_saved(path, shown_path):
        loaded = saved_splits(path, shown_path)
        yield from _numbered(
            _chosen_split(loaded, split, shown_path) if isinstance(loaded, Mapping) else loaded, shown_path
        )
        return
    hub = _HUB_NAME.fullmatch(name)
    nothing = path_kind(path, shown_path) == "nothing"
    if hub and nothing and not has_known_ending(name) and not name.lower().endswith((".gz", ".txt")):
        yield from hub_rows(hub["name"], hub["split"] or split)
        return
    yield from file_rows(path, shown_path)


def hub_rows(name: str, split: str) -> Iterator[Row]:
    """The rows of a data set that `datasets.load_dataset` finds by this name.

    Raises:
        DataError: the data set or the split cannot be loaded.
    """
    try:
        loaded = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError, ImportError, DatasetsError) as error:
        detail = " ".join(str(error).split()).rstrip(".")
        raise DataError(
            f"{name!r} (split {split!r}) must be a file or a data set of the Hub, but there is no such file and the "
            f"Hub's answer was: {detail}; check the name, the split (write `{name}:SPLIT`) and the connection."
        ) from None
    yield from _numbered(loaded, name)


def _chosen_split(splits: Mapping[Any, Any], split: str, name: str) -> Any:
    if split not in splits:
        raise DataError(
            f"{name} must have the split `{split}`, but has {named(splits) or 'none'} instead; choose one of these."
        )
    return splits[split]


def _numbered(rows: Any, name: str) -> Iterator[Row]:
    number, streamed = 0, isinstance(rows, datasets.IterableDataset)
    prefix = f"{name}: row" if name else "row"
    given = iter(rows)
    while True:
        try:
            values = next(given)
        except StopIteration:
            break
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # of a file that a data set lies in
            raise DataError(
                f"{name or 'the data set'} must be readable, but row {number + 1} is not ({first_line(error)}); write "
                "it again."
            ) from None
        number += 1
        if streamed and number % _TOLD_EVERY == 0:
            logger.warning(
                "data: %s rows of a stream are in memory, and it is read to its end; of one that has none, give "
                "`stream.take(ROWS)`",
                f"{number:,}",
            )
        if not isinstance(values, Mapping):
            raise DataError(
                f"{prefix} {number}: a row must be a dict with `chosen` and `rejected`, but is {shown(values)} instead."
            )
        yield Row(values=values, where=f"{prefix} {number}")
    if number == 0:
        raise DataError(f"{name or 'the data set'} must hold preference pairs, but is empty instead.")
