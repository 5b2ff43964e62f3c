"""Shards: what is read is what was written, or it is refused with a sentence."""

import os
import re
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betahead.errors import CacheError
from betahead.reference.shards import age_of, listed_shards, read_shard, remove_abandoned, write_shard

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ENTRIES = st.dictionaries(st.binary(min_size=16, max_size=16), FLOATS, min_size=1, max_size=8)
SOME = {bytes(range(16)): -1.5, bytes(range(1, 17)): -2.25}


@given(entries=ENTRIES)
@settings(max_examples=30, deadline=None)
def test_a_shard_gives_back_every_bit(entries: dict[bytes, float], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert read_shard(write_shard(tmp_path_factory.mktemp("cache"), entries)) == entries


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_shard_with_any_byte_changed_or_cut_off_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_shard(tmp_path_factory.mktemp("cache"), SOME)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        content = content[:place]
    path.write_bytes(content)
    wanted = (
        f"{path} must be a whole shard of a reference cache, but its content is not what was written; delete it, and "
        "what it held will be scored again."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        read_shard(path)


def test_any_tool_reads_a_shard(tmp_path: Path) -> None:
    table = pq.read_table(write_shard(tmp_path, SOME))
    assert dict(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True)) == SOME
    assert table.schema.field("value").type == pa.float32()


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path, SOME).rename(tmp_path / "mine.parquet")
    wanted = f"{path} must be a shard of a reference cache, but has no such name; move it elsewhere."
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        read_shard(path)


def test_a_shard_of_another_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr("betahead.reference.shards.SCHEMA", b"2")
        path = write_shard(tmp_path, SOME)
    wanted = (
        f"{path} must have schema 1 of reference caches, but has 2 instead; read it with the version that wrote it, or "
        "delete it, and what it held will be scored again."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        read_shard(path)


def test_a_shard_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / write_shard(tmp_path / "elsewhere", SOME).name
    path.mkdir()
    with pytest.raises(
        CacheError, match=r"must be a readable shard of a reference cache, but the system says: Is a di"
    ):
        read_shard(path)


def test_shards_are_listed_by_age_without_what_is_half_written(tmp_path: Path) -> None:
    assert listed_shards(tmp_path / "nowhere") == []
    new = write_shard(tmp_path, SOME)
    old = write_shard(tmp_path, {bytes(16): 0.0}, born=age_of(new) - 1)
    (tmp_path / f".{new.name}.partial").write_bytes(b"half")
    (tmp_path / ".hidden.parquet").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("mine")
    assert listed_shards(tmp_path) == [old, new]


def test_what_a_killed_process_left_is_removed_once_it_is_nobodys(tmp_path: Path) -> None:
    now, left = tmp_path / ".a.partial", tmp_path / ".b.partial"
    for path in (now, left):
        path.write_bytes(b"half")
    os.utime(left, (0, time.time() - 7200))
    remove_abandoned(tmp_path)
    assert now.exists()
    assert not left.exists()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "cache"
    wanted = (
        f"the reference cache must be a folder that can be written, but {folder} is not (Not a directory); correct its "
        "permissions or make room, or name another folder as `reference.cache`."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        write_shard(folder, SOME)
