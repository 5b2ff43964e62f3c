"""The ranks that write no folder."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from betahead.runs.other_ranks import UnwrittenFolder, console_of_rank, folder_of_rank


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")


def written(folder: object) -> None:
    folder.write_config("a: 1")
    folder.write_record({"seed": 0})
    folder.write_json("x.json", {})
    folder.log_metrics({"loss": 1.0})
    folder.add_sample({"prompt": "a"})
    folder.finish({})


def test_the_first_rank_claims_and_writes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with folder_of_rank(tmp_path / "run") as claim:
        written(claim.folder)
    assert (tmp_path / "run" / "DONE").is_file() and not claim.kept


def test_the_others_write_nothing_and_take_nothing_away(tmp_path: Path, second: None) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "of the first").touch()

    def interrupted() -> None:
        with folder_of_rank(tmp_path / "run") as claim:
            assert isinstance(claim.folder, UnwrittenFolder) and claim.folder.path == tmp_path / "run"
            written(claim.folder)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["of the first"]


def test_every_writing_of_a_run_folder_is_left_out() -> None:
    writes = {"write_config", "write_json", "log_metrics", "add_sample", "finish"}
    assert writes <= set(vars(UnwrittenFolder))


def test_what_another_rank_saw_when_it_failed_is_written(tmp_path: Path, second: None) -> None:
    (tmp_path / "run" / "failures").mkdir(parents=True)
    with folder_of_rank(tmp_path / "run") as claim:
        where = claim.write_failure("not_finite.rank1.json", {"loss": "nan"})
    assert where == tmp_path / "run" / "failures" / "not_finite.rank1.json"
    assert json.loads(where.read_text(encoding="utf-8")) == {"loss": "nan"}


def test_the_others_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console()
    monkeypatch.delenv("RANK", raising=False)
    assert console_of_rank(console) is console
    monkeypatch.setenv("RANK", "1")
    assert console_of_rank(console).quiet
