"""A run on several ranks: the first one writes its folder and speaks, the others take part and are silent."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from betahead.runs.claimed import Claim, claimed_folder
from betahead.runs.folder import RunFolder
from betahead.train.ranks import first_rank


class UnwrittenFolder(RunFolder):
    """The folder of a run that another rank writes: what would be written is left out, but for a failure."""

    def write_config(self, text: str) -> None:
        """Nothing."""

    def write_json(self, name: str, value: Any) -> None:
        """Nothing."""

    def log_metrics(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def add_sample(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def write_failure(self, name: str, seen: Mapping[str, Any]) -> Path:
        """What this rank alone has seen is written all the same, under a name of its own."""
        return RunFolder(self.path).write_failure(name, seen)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Nothing."""


def folder_of_rank(
    output: Path, going_on: AbstractContextManager[Claim] | None = None
) -> AbstractContextManager[Claim]:
    """A run folder on the first rank, see `claimed_folder`; one that is not written on the others.

    Args:
        output: of a new run.
        going_on: the folder of a run that goes on, in place of a new one.
    """
    if first_rank():
        return claimed_folder(output) if going_on is None else going_on
    return nullcontext(Claim(folder=UnwrittenFolder(output.absolute()), kept=True))


def console_of_rank(console: Console) -> Console:
    """The console on the first rank, silence on the others."""
    return console if first_rank() else Console(quiet=True)
