from pathlib import Path

import pytest

from betahead.reference.place import cache_beside, user_cache


def test_a_cache_lies_beside_a_file_or_folder_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pairs.jsonl").write_text("")
    (tmp_path / "saved").mkdir()
    assert cache_beside(tmp_path / "pairs.jsonl") == tmp_path / "pairs.jsonl.refcache"
    assert cache_beside(tmp_path / "saved") == tmp_path / "saved.refcache"
    monkeypatch.chdir(tmp_path / "saved")
    assert cache_beside(Path()) == tmp_path / "saved.refcache"
    assert cache_beside(Path("../pairs.jsonl")) == Path("../pairs.jsonl.refcache")


def test_there_is_no_beside_without_data_or_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_beside(tmp_path / "org" / "data") is None
    (tmp_path / "pairs.jsonl").write_text("")
    monkeypatch.setattr("os.access", lambda *_: False)
    assert cache_beside(tmp_path / "pairs.jsonl") is None
    (tmp_path / "pairs.jsonl.refcache").mkdir()
    assert cache_beside(tmp_path / "pairs.jsonl") == tmp_path / "pairs.jsonl.refcache"


def test_the_users_cache_is_where_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "betahead" / "reference"
    monkeypatch.setenv("HOME", "/home/somebody")
    for unusable in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert user_cache() == Path("/home/somebody/.cache/betahead/reference")
