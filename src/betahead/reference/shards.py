"""One file of a reference cache: keys and their numbers, there whole or not at all, and never believed when damaged.

A shard is a Parquet file of two columns, `key` (16 bytes) and `value` (float32): any tool reads it, nothing in it is
executed. Its name holds the digest of its bytes, which are compared before they are parsed: a shard that was cut off,
changed, renamed or put there by something else is found out without trusting a parser with it. It is written beside its
place and renamed into it, so that a process that is killed leaves no half of one.
"""

import hashlib
import io
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from betahead.durable import write_whole
from betahead.errors import CacheError
from betahead.reference.row_keys import KEY_BYTES

SCHEMA = b"1"
_NAME = re.compile(r"(?P<born>\d{20})-(?P<digest>[0-9a-f]{32})\.parquet")
_PARTIAL = ".partial"
_ABANDONED_AFTER = 3600.0
_UNUSABLE = "delete it, and what it held will be scored again"


def write_shard(folder: Path, entries: Mapping[bytes, float], *, born: int | None = None) -> Path:
    """Put the entries into a new file of the folder, which is made if need be, and on the disk.

    Args:
        folder: where the shards of one reference lie.
        entries: numbers by key.
        born: nanoseconds since 1970 that order shards by age; now when None.

    Raises:
        CacheError: a folder that cannot be written.
    """
    table = pa.table(
        {
            "key": pa.array(list(entries), pa.binary(KEY_BYTES)),
            "value": pa.array(np.fromiter(entries.values(), dtype=np.float32, count=len(entries))),
        }
    )
    stream = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({b"betahead.reference": SCHEMA}), stream, compression="none", use_dictionary=False
    )
    content = stream.getvalue()
    path = folder / f"{time.time_ns() if born is None else born:020d}-{_digest(content)}.parquet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, suffix=_PARTIAL)
    except OSError as error:
        raise CacheError(
            f"the reference cache must be a folder that can be written, but {folder} is not "
            f"({error.strerror or error}); correct its permissions or make room, or name another folder as "
            "`reference.cache`."
        ) from error
    return path


def read_shard(path: Path) -> dict[bytes, float]:
    """The entries of a file.

    Raises:
        CacheError: a file that is not, or no longer, what was written, with its name and the remedy.
        FileNotFoundError: it has been merged into another one since it was listed.
    """
    match = _NAME.fullmatch(path.name)
    try:
        content = path.read_bytes() if match else b""
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheError(
            f"{path} must be a readable shard of a reference cache, but the system says: {error.strerror or error}; "
            f"correct its permissions, or {_UNUSABLE}."
        ) from error
    if match is None:
        raise CacheError(f"{path} must be a shard of a reference cache, but has no such name; move it elsewhere.")
    if _digest(content) != match["digest"]:
        raise CacheError(
            f"{path} must be a whole shard of a reference cache, but its content is not what was written; {_UNUSABLE}."
        )
    with pq.ParquetFile(pa.BufferReader(content)) as file:
        written = (file.schema_arrow.metadata or {}).get(b"betahead.reference", b"none")
        if written != SCHEMA:
            raise CacheError(
                f"{path} must have schema {SCHEMA.decode()} of reference caches, but has {written.decode()} instead; "
                f"read it with the version that wrote it, or {_UNUSABLE}."
            )
        table = file.read(use_threads=False)
    return dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))


def listed_shards(folder: Path) -> list[Path]:
    """The shards of a folder, oldest first; none when there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".parquet" and path.name[0] != ".")
    except (FileNotFoundError, NotADirectoryError):
        return []


def age_of(path: Path) -> int:
    """When a shard was written, nanoseconds since 1970."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, path
    return int(match["born"])


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left: a file lives under its temporary name for less than a second."""
    for path in folder.glob(f".*{_PARTIAL}"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink()


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
