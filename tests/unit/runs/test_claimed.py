"""A run that fails before its first step leaves nothing and takes nothing."""

from pathlib import Path

import pytest

from betahead.errors import ConfigError
from betahead.runs.claimed import claimed_folder
from betahead.runs.folder import RunFolder


def interrupted(output, meanwhile):
    with claimed_folder(output) as claim:
        (claim.folder.path / "config.yaml").write_text("model:")
        if meanwhile is not None:
            meanwhile(claim)
        raise KeyboardInterrupt


def fails(output, meanwhile=None):
    with pytest.raises(KeyboardInterrupt):
        interrupted(output, meanwhile)


def test_the_folder_and_those_made_above_it_disappear_again(tmp_path):
    fails(tmp_path / "runs" / "today" / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_began_beside_it_stays(tmp_path):
    def another(claim):
        other = RunFolder.create(tmp_path / "runs" / "b")
        (other.path / "summary.json").write_text("hours of work")

    fails(tmp_path / "runs" / "a", another)
    assert (tmp_path / "runs" / "b" / "summary.json").read_text() == "hours of work"
    assert not (tmp_path / "runs" / "a").exists()


def test_an_empty_folder_that_was_there_before_is_empty_again(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    fails(Path("a"))
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_is_kept_from_the_first_step_on(tmp_path):
    def began(claim):
        claim.kept = True

    fails(tmp_path / "a", began)
    assert (tmp_path / "a" / "config.yaml").read_text() == "model:"


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "DONE").write_text("")
    with pytest.raises(ConfigError, match="holds another run already"), claimed_folder(tmp_path / "a"):
        pass
    assert (tmp_path / "a" / "DONE").exists()
