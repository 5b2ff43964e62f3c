"""A run's folder from its making to its first step: until then a run that fails leaves nothing, and takes nothing."""

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.runs.folder import RunFolder


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


class KeepsOnceBegun(TrainerCallback):
    """Keeps the folder from the first step on: from then on there is something to look at."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The first step has been taken."""
        self.claim.kept = True
