"""Numbers by key in a folder that many processes may write at once, and that survives the end of any of them."""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from betahead.errors import CacheError
from betahead.reference.row_keys import RowKeys
from betahead.reference.shards import age_of, listed_shards, read_shard, remove_abandoned, write_shard


class ReferenceCache:
    """The scores of one reference, merged from all shards of a folder; of several numbers for a key the oldest counts.

    There are no locks: every process writes files of its own, and a file is never changed. A shard that cannot be
    trusted is left out and named in `skipped`, which is safe because leaving one out can only make rows be scored
    again: nothing is ever concluded from a number that is not there.

    Args:
        folder: where the shards lie; made when the first one is written.
        read_only: never write, and refuse to.
        every: seconds between two shards at least, so that passes of milliseconds do not make thousands of files; a
            process that is killed loses the pass in progress and at most so many seconds before it.
    """

    def __init__(self, folder: Path, *, read_only: bool = False, every: float = 1.0) -> None:
        self.folder = folder
        self.read_only = read_only
        self.every = every
        self.skipped: list[str] = []
        self._values: dict[bytes, float] = {}
        self._seen: set[Path] = set()
        self._unsaved: dict[bytes, float] = {}
        self._written: list[Path] = []
        self._own: dict[bytes, float] = {}
        self._saved_at = time.monotonic()
        self.refresh()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def __getitem__(self, key: bytes) -> float:
        return self._values[key]

    def refresh(self) -> None:
        """Read the shards that have come since the last time."""
        fresh = [path for path in listed_shards(self.folder) if path not in self._seen]
        while fresh:
            path = fresh.pop(0)
            try:
                entries = read_shard(path)
            except FileNotFoundError:
                # Merged by its writer in the meantime: the merged shard is there before the parts go.
                fresh = [path for path in listed_shards(self.folder) if path not in self._seen]
                continue
            except CacheError as error:
                self.skipped.append(str(error))
                entries = {}
            self._seen.add(path)
            for key, value in entries.items():
                self._values.setdefault(key, value)

    def missing(self, keys: Sequence[RowKeys]) -> list[int]:
        """Numbers of the rows of which a number is not there."""
        return [row for row, parts in enumerate(keys) if any(part not in self._values for part in parts)]

    def add(self, entries: Mapping[bytes, float]) -> None:
        """Keep the numbers whose keys are new; on disk at once, or with the next call if the last was just now.

        Raises:
            CacheError: a number that is not finite, a cache for reading only, or a folder that cannot be written.
        """
        self._check_writable()
        for key, value in entries.items():
            if not math.isfinite(value):
                raise CacheError(
                    f"a score of the reference must be finite to be kept, but is {value} instead; look for broken "
                    "weights, or use `model.dtype: float32`."
                )
            if key not in self._values:
                self._values[key] = self._unsaved[key] = value
        if time.monotonic() - self._saved_at >= self.every:
            self.save()

    def save(self) -> None:
        """Write what has been added since the last time.

        Raises:
            CacheError: see `add`.
        """
        if self._unsaved:
            self._check_writable()
            self._wrote(write_shard(self.folder, self._unsaved))
            self._own |= self._unsaved
            self._unsaved = {}
        self._saved_at = time.monotonic()

    def merge(self) -> None:
        """Save, and put what this object has written into one shard in place of many.

        The one is there before the many go, so that whoever reads meanwhile, or kills this process, loses nothing.
        """
        self.save()
        if len(self._written) > 1:
            parts, self._written = self._written, []
            self._wrote(write_shard(self.folder, self._own, born=age_of(parts[0])))
            for path in parts:
                with suppress(OSError):
                    path.unlink()
            remove_abandoned(self.folder)
        self._written, self._own = [], {}

    def _wrote(self, path: Path) -> None:
        self._written.append(path)
        self._seen.add(path)

    def _check_writable(self) -> None:
        if self.read_only:
            raise CacheError(
                f"the reference cache {self.folder} must not be read only when there is something to keep, but was "
                "opened for reading; open it for writing, or complete it first."
            )
