"""Folders that `datasets` wrote with `save_to_disk`, read without leaving them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from betahead.data.paths import path_kind
from betahead.data.rows import shown
from betahead.errors import DataError

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_saved(path: Path, name: str) -> bool:
    """Whether a folder of `save_to_disk` lies there: a data set, or one per split.

    Raises:
        DataError: see `path_kind`.
    """
    return path_kind(path, name) == "folder" and any(
        path_kind(path / file, name) == "file" for file in (_STATE, _SPLITS)
    )


def saved_splits(path: Path, name: str) -> datasets.Dataset | Mapping[Any, datasets.Dataset]:
    """The data set of the folder, or its data sets by split.

    Raises:
        DataError: files that are missing or broken, or that name others outside the folder.
    """
    try:
        for state in _states(path, name):
            for file in json.loads(state.read_text(encoding="utf-8"))["_data_files"]:
                _inside(file["filename"], name)
        return datasets.load_from_disk(str(path))
    except DataError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
        # JSON of another shape than `datasets` wrote makes it stumble over whatever comes first.
        raise DataError(
            f"{name} must be a folder written by `save_to_disk`, but cannot be read ({first_line(error)}); write it "
            "again."
        ) from None


def first_line(error: Exception) -> str:
    """The first line of what a library says, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _states(path: Path, name: str) -> list[Path]:
    if (path / _STATE).is_file():
        return [path / _STATE]
    splits = json.loads((path / _SPLITS).read_text(encoding="utf-8"))["splits"]
    return [path / _inside(split, name) / _STATE for split in splits]


def _inside(entry: Any, name: str) -> str:
    """The name of a file or folder, known to be one in the folder that names it: `../x` would be another's."""
    entry = str(entry)
    if Path(entry).name != entry:
        raise DataError(
            f"{name} must hold all of its files, but names {shown(entry)}, which is outside of it; write it again."
        )
    return entry
