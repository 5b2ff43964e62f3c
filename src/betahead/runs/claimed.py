"""Whose a run's folder is: until its first step a run that fails leaves nothing, and later one process has it alone."""

import fcntl
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.durable import refusal
from betahead.errors import ConfigError
from betahead.runs.folder import RunFolder

_PATIENCE = 15.0
"""Seconds to wait for the folder of a process that has just been killed."""


@dataclass(kw_only=True)
class Claim:
    """A new run folder.

    Args:
        folder: where the run writes.
        kept: what lies there stays, whatever happens next.
    """

    folder: RunFolder
    kept: bool = False

    def write_failure(self, name: str, seen: Mapping[str, Any]) -> Path:
        """Write what was seen when the run stopped, which is worth keeping, and say where."""
        self.kept = True
        return self.folder.write_failure(name, seen)


@contextmanager
def claimed_folder(output: Path) -> Generator[Claim]:
    """A run folder that disappears again when what happens inside fails before `kept` is set.

    Of the folders above it, only those disappear that were made for it and hold nothing else: another run may have
    begun beside it.
    """
    output = output.absolute()
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    claim = Claim(folder=RunFolder.create(output))
    try:
        yield claim
    except BaseException:
        if not claim.kept:
            for item in output.iterdir():
                shutil.rmtree(item, ignore_errors=True) if item.is_dir() else item.unlink()
            with suppress(OSError):  # the first one that is not empty ends it
                for folder in made:
                    folder.rmdir()
        raise


class OneProcess:
    """Keeps other processes away from a run's folder until it is left; a killed process keeps nobody away.

    The first of several ranks keeps it for all. It is a lock of the kernel on the folder itself, and no file.
    """

    def __init__(self) -> None:
        self._handle: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let others in."""
        if self._handle is not None:
            os.close(self._handle)

    def hold(self, output: Path) -> None:
        """Have the folder alone from here on, if it is there and not held already.

        Raises:
            ConfigError: another process works on it.
        """
        if self._handle is not None or not output.is_dir() or int(os.environ.get("RANK", "0")) > 0:
            return
        self._handle = os.open(output, os.O_RDONLY)
        # Workers of a killed process hold its lock until they notice, some seconds later.
        last = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > last:
                    raise ConfigError(
                        f"`output` must be a run that nobody works on, but another process works on {output}; wait for "
                        "it, or stop it."
                    ) from None
                time.sleep(0.2)
            except OSError:  # a file system without locks
                return


@contextmanager
def disk_refusals(output: Path) -> Generator[None]:
    """Turn what a file system says of a folder that is full, read-only or gone into a sentence.

    Raises:
        ConfigError: it refused to write, with its words and how to go on; or the folder is no longer there.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        said, name = refusal(error), getattr(error, "filename", None)
        elsewhere = isinstance(name, str) and output.absolute() not in Path(name).absolute().parents
        if isinstance(error, FileNotFoundError) and isinstance(name, str) and not elsewhere and not output.is_dir():
            raise ConfigError(
                f"`output` must stay where it is until the run has ended, but {output} is gone; put it back and go on "
                "with `--resume`, or begin again."
            ) from error
        if said is None or elsewhere:
            raise
        raise ConfigError(
            f"`output` must be writable until the run has ended, but {output} is not ({said}); correct that, and go on "
            "with `--resume`."
        ) from error


class KeepsOnceBegun(TrainerCallback):
    """Keeps the folder from the first step on: from then on there is something to look at."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The first step has been taken."""
        self.claim.kept = True
