"""Files that are on the disk whole or not at all, also after a crash or a full disk."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes, *, suffix: str = "") -> None:
    """Put the content in the file, in one step: a reader sees the old content or the new, never a part.

    Args:
        path: the file, in a folder that exists.
        content: all of it.
        suffix: of the hidden file that a killed process may leave beside it.

    Raises:
        OSError: the folder cannot be written or is full; nothing is left of the attempt.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=suffix, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on the disk: a renamed file survives a power cut only once its folder is there too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
