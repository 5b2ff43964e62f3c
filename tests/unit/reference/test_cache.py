"""The merged cache: what was added is found by whoever looks, and nothing else is."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from betahead.errors import CacheError
from betahead.reference.cache import ReferenceCache
from betahead.reference.shards import listed_shards, write_shard

KEYS = [bytes([number]) * 16 for number in range(8)]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "save", "merge", "refresh", "reopen"]), st.integers(0, 1), st.integers(0, 7)),
        max_size=25,
    )
)
@settings(max_examples=40, deadline=None)
def test_two_writers_in_any_order_lose_nothing_and_invent_nothing(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    writers = [ReferenceCache(folder, every=0) for _ in range(2)]
    added: set[int] = set()
    for step, writer, key in steps:
        if step == "add":
            writers[writer].add({KEYS[key]: float(key)})
            added.add(key)
        elif step == "reopen":
            writers[writer] = ReferenceCache(folder, every=0)
        else:
            getattr(writers[writer], step)()
    for cache in (ReferenceCache(folder), *writers):
        cache.refresh()
        assert len(cache) == len(added)
        assert all(cache[KEYS[key]] == key for key in added)
        assert cache.skipped == []


def test_of_several_numbers_for_a_key_the_oldest_counts_also_when_shards_are_merged(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path, every=0)
    cache.add({KEYS[0]: 1.0})
    write_shard(tmp_path, {KEYS[0]: 2.0, KEYS[2]: 2.0})
    cache.add({KEYS[1]: 1.0})
    cache.merge()
    assert len(listed_shards(tmp_path)) == 2
    again = ReferenceCache(tmp_path)
    assert [again[key] for key in KEYS[:3]] == [1.0, 1.0, 2.0]


def test_a_row_is_missing_when_one_of_its_numbers_is(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path)
    cache.add({KEYS[0]: 1.0, KEYS[1]: 2.0})
    rows = [(KEYS[0], KEYS[1]), (KEYS[0], KEYS[2]), (KEYS[3], KEYS[4])]
    assert cache.missing(rows) == [1, 2]
    assert KEYS[1] in cache
    assert KEYS[2] not in cache


def test_passes_of_milliseconds_share_a_file_until_they_are_saved(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path, every=3600)
    for number in range(4):
        cache.add({KEYS[number]: 0.0})
    assert listed_shards(tmp_path) == []
    cache.save()
    cache.save()
    assert len(listed_shards(tmp_path)) == 1
    assert len(ReferenceCache(tmp_path)) == 4


def test_a_shard_that_its_writer_merges_while_it_is_read_is_found_in_the_merged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ReferenceCache(tmp_path, every=0)
    for number in range(3):
        writer.add({KEYS[number]: float(number)})
    stale = listed_shards(tmp_path)
    writer.merge()
    answers = iter([stale])
    monkeypatch.setattr(
        "betahead.reference.cache.listed_shards", lambda folder: next(answers, None) or listed_shards(folder)
    )
    assert len(ReferenceCache(tmp_path)) == 3


def test_a_damaged_shard_is_left_out_with_one_line_and_its_rows_are_missing(tmp_path: Path) -> None:
    good = write_shard(tmp_path, {KEYS[0]: 1.0})
    bad = write_shard(tmp_path, {KEYS[1]: 1.0})
    bad.write_bytes(bad.read_bytes()[:-9])
    foreign = tmp_path / "other.parquet"
    foreign.write_bytes(good.read_bytes())
    cache = ReferenceCache(tmp_path)
    cache.refresh()
    assert cache.missing([(KEYS[0],), (KEYS[1],)]) == [1]
    assert len(cache.skipped) == 2
    assert str(bad) in cache.skipped[0] and "what it held will be scored again" in cache.skipped[0]
    assert str(foreign) in cache.skipped[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    wanted = (
        f"a score of the reference must be finite to be kept, but is {value} instead; look for broken weights, or use "
        "`model.dtype: float32`."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        ReferenceCache(tmp_path).add({KEYS[0]: value})


def test_a_cache_for_reading_only_refuses_to_keep(tmp_path: Path) -> None:
    wanted = (
        f"the reference cache {tmp_path} must not be read only when there is something to keep, but was opened for "
        "reading; open it for writing, or complete it first."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        ReferenceCache(tmp_path, read_only=True).add({KEYS[0]: 1.0})
    assert listed_shards(tmp_path) == []
