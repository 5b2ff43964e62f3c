"""Checkpoints on the disk, each whole or not there: written apart, synced, described by a manifest, then renamed.

A checkpoint is written into `_unfinished/checkpoint-N` of the output folder. When its last byte is on the disk,
`manifest.json` with the size of every file is written beside them, and the folder is renamed to its place, which a file
system does in one step. So whatever moment a process is killed at, a folder `checkpoint-N` is whole; one that is not
(somebody copied half of it, a disk lost a file) is found out by its manifest. Which checkpoint is the last one is a
matter of its number alone, never of a clock.
"""

import json
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from betahead.durable import sync_folder, sync_tree, write_whole

MANIFEST = "manifest.json"
STATE = "trainer_state.json"
UNFINISHED = "_unfinished"
"""Where checkpoints are written and deleted; the name is one that uploads to the Hub leave out."""

_SCHEMA = 1
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The checkpoints of an output folder.

    Args:
        whole: those that training can go on from, by step, the last one last.
        damaged: the others, each with what is wrong with it as a clause, by step.
    """

    whole: tuple[Path, ...]
    damaged: dict[Path, str]

    @property
    def last(self) -> Path | None:
        """The one to go on from."""
        return self.whole[-1] if self.whole else None

    @property
    def skipped(self) -> dict[Path, str]:
        """Those damaged ones that are later than the last whole one, or all where there is none."""
        after = -1 if self.last is None else step_of(self.last)
        return {path: why for path, why in self.damaged.items() if step_of(path) > after}


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint."""
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None, checkpoint
    return int(match[1])


def checkpoints_in(output: Path) -> Checkpoints:
    """The checkpoints in a folder; none when there is no folder."""
    found = listed(output)
    wrong = {path: problem for path in found if (problem := problem_of(path))}
    return Checkpoints(whole=tuple(path for path in found if path not in wrong), damaged=wrong)


def listed(output: Path) -> list[Path]:
    """The folders of that name, by step; none when there is no folder."""
    there = output.iterdir() if output.is_dir() else ()
    return sorted((path for path in there if _NAME.fullmatch(path.name) and path.is_dir()), key=step_of)


def problem_of(checkpoint: Path) -> str:
    """What keeps training from going on from a folder, as a clause, or "" for nothing."""
    try:
        if odd := next((path for path in sorted(checkpoint.rglob("*")) if _neither(path)), None):
            return f"holds {odd.relative_to(checkpoint)}, which is neither a file nor a folder"
        manifest: Any = json.loads((checkpoint / MANIFEST).read_bytes())
        schema, files = manifest["schema"], cast("dict[str, int]", dict(manifest["files"]))
        resumable = bool(manifest["resumable"])
    except FileNotFoundError:
        return f"has no {MANIFEST}, which is written last"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"has a {MANIFEST} that cannot be read ({type(error).__name__})"
    if schema != _SCHEMA:
        return f"is of schema {schema}, which this version does not know"
    return _missing(checkpoint, files) or ("" if resumable else "holds the model alone (`save_only_model`)")


def _neither(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, whose reader could wait for ever."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _missing(checkpoint: Path, files: dict[str, int]) -> str:
    """What a checkpoint lacks of the files that its manifest names, as a clause."""
    for name, size in files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"lacks {name}"
        if file.stat().st_size != size:
            return f"has {file.stat().st_size:,} bytes of {name} instead of {size:,}"
    return "" if STATE not in files or _tells(checkpoint) else f"has a {STATE} that is not that of its step"


def _tells(checkpoint: Path) -> bool:
    """Whether the trainer's own state is one, of the step that the folder is named for."""
    try:
        state: Any = json.loads((checkpoint / STATE).read_bytes())
        whole = all(isinstance(row["step"], int) and dict(row) for row in list(state["log_history"]))
        return whole and state["global_step"] == int(checkpoint.name.rpartition("-")[2])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def begin(output: Path, step: int) -> Path:
    """An empty folder to write the checkpoint of a step into."""
    folder = output / UNFINISHED / f"checkpoint-{step}"
    discard(folder)
    folder.mkdir(parents=True)
    return folder


def finish(staged: Path, *, resumable: bool) -> Path:
    """Put a checkpoint that was written into the folder of `begin` in its place, in one step.

    One of the same step that lies there already gives way.

    Args:
        staged: the folder of `begin`.
        resumable: it holds more than the model.

    Returns:
        Its place.
    """
    files = {path.relative_to(staged).as_posix(): path.stat().st_size for path in staged.rglob("*") if path.is_file()}
    sync_tree(staged)
    manifest = {"schema": _SCHEMA, "resumable": resumable, "files": dict(sorted(files.items()))}
    write_whole(staged / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return _placed(staged)


def _placed(staged: Path) -> Path:
    output = staged.parents[1]
    place = output / staged.name
    before = _out_of_sight(place) if place.exists() else None
    staged.rename(place)
    sync_folder(output)
    if before is not None:
        discard(before)
    _tidy(output)
    return place


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint: it is gone at once, however long its files take and whatever happens meanwhile."""
    discard(_out_of_sight(checkpoint))
    _tidy(checkpoint.parent)


def _out_of_sight(checkpoint: Path) -> Path:
    doomed = checkpoint.parent / UNFINISHED / f"removed-{checkpoint.name}"
    doomed.parent.mkdir(exist_ok=True)
    discard(doomed)
    checkpoint.rename(doomed)
    return doomed


def discard(folder: Path) -> None:
    """Delete a folder of `_unfinished`, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def abandon(staged: Path) -> None:
    """Leave nothing of a checkpoint that could not be written, as far as the file system lets go of it."""
    shutil.rmtree(staged, ignore_errors=True)
    with suppress(OSError):
        _tidy(staged.parents[1])


def clear_unfinished(output: Path) -> list[Path]:
    """Remove what a killed process left in `_unfinished`; a checkpoint that was whole but for its name gets that.

    Returns:
        The checkpoints that were half written.
    """
    room = output / UNFINISHED
    half: list[Path] = []
    for folder in sorted(room.iterdir()) if room.is_dir() else ():
        name = folder.name.removeprefix("removed-")
        if _NAME.fullmatch(name) and not problem_of(folder) and not (output / name).exists():
            folder.rename(output / name)
            continue
        if folder.name == name:
            half.append(folder)
        discard(folder)
    _tidy(output)
    return half


def keep_few(output: Path, limit: int | None, kept: Iterable[Path]) -> None:
    """Delete the checkpoints of the earliest steps until no more than `limit` are left.

    Args:
        output: holds them.
        limit: `save_total_limit`; None or 0 for all.
        kept: stay in any case: the one just written and the best one.
    """
    if not limit or limit < 0:
        return
    there, spared = listed(output), {path.resolve() for path in kept}
    removable = [path for path in there if path.resolve() not in spared]
    for path in removable[: max(0, len(there) - max(limit, 1))]:
        remove(path)


def _tidy(output: Path) -> None:
    room = output / UNFINISHED
    if room.is_dir() and not any(room.iterdir()):
        room.rmdir()
