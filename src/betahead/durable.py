"""Files that are on the disk whole or not at all, also after a crash or a full disk."""

import errno
import os
import re
import tempfile
from pathlib import Path

_REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
"""What a file system says to a writer who has done nothing wrong."""


def refusal(error: BaseException) -> str | None:
    """What the file system said when it refused to write, such as "No space left on device"; None for other errors.

    Libraries that write with code of their own wrap the system's words in an error of theirs, with its number.
    """
    if isinstance(error, OSError):
        return (error.strerror or str(error)) if error.errno in _REFUSALS else None
    found = re.search(r"os error (\d+)", str(error))
    return os.strerror(int(found[1])) if found and int(found[1]) in _REFUSALS else None


def sync_tree(folder: Path) -> None:
    """Put everything under the folder on the disk, itself included."""
    for path in (*folder.rglob("*"), folder):
        sync_folder(path)


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
    """Put the folder's entries on the disk: a renamed file survives a power cut only once its folder is there too.

    For a file it is its content.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
