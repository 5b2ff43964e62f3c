"""What a person's path means, and what lies there: only a file is read, never a pipe that may not end."""

import os
import re
import stat
from pathlib import Path
from typing import Literal

from betahead.errors import DataError

PathKind = Literal["file", "folder", "device", "nothing"]

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expanded(path: str) -> str:
    """The path with `~` and environment variables replaced.

    Raises:
        DataError: an environment variable that is not set.
    """
    for match in _VARIABLE.finditer(path):
        variable = match.group(1) or match.group(2)
        if variable not in os.environ:
            raise DataError(
                f"{path} must name a file, but the environment variable {variable} is not set; "
                f"set it to the folder that holds the data (`export {variable}=…`) or write the path out."
            )
    return _VARIABLE.sub(lambda match: os.environ[match.group(1) or match.group(2)], str(with_home(path)))


def with_home(path: str | Path) -> Path:
    """The path with `~` replaced; one of a user whom this machine does not know stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def path_kind(path: Path, name: str) -> PathKind:
    """What lies there, links followed; `device` stands for pipes and sockets too.

    Args:
        path: need not exist.
        name: how errors call it.

    Raises:
        DataError: the system does not say: a name that is too long, links in a circle, a folder that is closed to us.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: characters that no path can hold
        return "nothing"
    except OSError as error:
        raise unreadable(name, error) from None
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "device"


def unreadable(name: str, error: OSError) -> DataError:
    """The sentence for a file that the system does not let be read."""
    return DataError(
        f"{name} must be readable, but the system says: {error.strerror or error}; correct its permissions or copy it "
        "again."
    )
