"""The text files of a run folder: written whole, and JSON that says what JSON cannot."""

import errno
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from betahead.durable import write_whole


def write_text(path: Path, text: str) -> None:
    """Put the text in the file, in one step: a reader sees the old content or the new, never a part."""
    write_whole(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Put the value in the file as readable JSON, in one step."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Add one JSON object as one line, in one write.

    Raises:
        OSError: the disk has no room for all of it; then none of it is there.
    """
    line = (json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        before = os.fstat(handle).st_size
        if os.write(handle, line) < len(line):
            os.ftruncate(handle, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)


def plain(value: Any) -> Any:
    """The value in JSON's types.

    JSON has no NaN and no infinity, and null would hide that a run diverged: such numbers become the texts "nan",
    "inf" and "-inf", which Python's `float()` reads back.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # tensors and arrays, scalars among them
        return plain(value.tolist())
    assert isinstance(value, Sequence), f"{type(value).__name__} has no JSON form"
    return [plain(item) for item in cast("Sequence[Any]", value)]
