"""Paragraphs of a plain text file, for models that are fitted on texts."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from betahead.data.paths import path_kind
from betahead.errors import DataError

TEXT_ENDINGS = (".txt", ".txt.gz")


def is_plain_text(path: str) -> bool:
    """Whether a name is that of a plain text file."""
    return path.lower().endswith(TEXT_ENDINGS)


def paragraphs(path: Path) -> Iterator[str]:
    """The paragraphs of a UTF-8 text file, which blank lines part, without white space around them.

    Raises:
        DataError: for a file that is missing, unreadable, not UTF-8, or no file but a folder, a pipe or a device.
    """
    kind = path_kind(path, str(path))
    if kind in ("folder", "device"):
        raise DataError(f"{path} must be a readable UTF-8 text file, but is a {kind} instead; name a file.")
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    lines: list[str] = []
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for line in file:
                if line.strip():
                    lines.append(line.rstrip())
                elif lines:
                    yield "\n".join(lines)
                    lines = []
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: a wrong encoding, or no path at all
        detail = " ".join(str(error).split())
        raise DataError(f"{path} must be a readable UTF-8 text file, but is not ({detail}); restore it.") from error
    if lines:
        yield "\n".join(lines)
