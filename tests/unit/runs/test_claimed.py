"""A run that fails before its first step leaves nothing and takes nothing."""

import errno
import os
import signal
from pathlib import Path

import pytest
from safetensors import SafetensorError

from betahead.errors import ConfigError
from betahead.runs.claimed import OneProcess, claimed_folder, disk_refusals
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


def test_of_two_runs_that_found_the_folder_free_one_has_it_and_the_other_leaves_it_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("betahead.runs.folder.check_output", Path)  # both have asked before either has written
    with claimed_folder(tmp_path / "a") as first:
        (first.folder.path / "config.yaml").write_text("model:")
        with pytest.raises(ConfigError) as caught, claimed_folder(tmp_path / "a"):
            pass
        assert str(caught.value) == (
            f"`output` must be a folder of its own, but another run has just begun in {tmp_path / 'a'}; choose another "
            "(`output=runs/NAME`)."
        )
        assert (first.folder.path / "config.yaml").read_text() == "model:"


def test_a_folder_is_one_process_s_until_that_is_killed(tmp_path, monkeypatch):
    told, tell = os.pipe()
    other = os.fork()
    if other == 0:
        with OneProcess() as alone:
            alone.hold(tmp_path)
            os.write(tell, b"held")
            signal.pause()
    try:
        assert os.read(told, 4) == b"held"
        monkeypatch.setattr("betahead.runs.claimed._PATIENCE", 0.3)
        with pytest.raises(ConfigError) as caught, OneProcess() as alone:
            alone.hold(tmp_path)
        assert str(caught.value) == (
            f"`output` must be a run that nobody works on, but another process works on {tmp_path}; wait for it, or "
            "stop it."
        )
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        os.close(told), os.close(tell)
    with OneProcess() as alone:
        alone.hold(tmp_path)
        alone.hold(tmp_path)


def test_a_folder_that_is_not_there_yet_is_nobody_s(tmp_path):
    with OneProcess() as alone:
        alone.hold(tmp_path / "later")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_one_sentence_and_other_errors_are_themselves(tmp_path):
    for error in (OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error (os error 28)")):
        with pytest.raises(ConfigError) as caught, disk_refusals(tmp_path):
            raise error
        assert str(caught.value) == (
            f"`output` must be writable until the run has ended, but {tmp_path} is not (No space left on device); "
            "correct that, and go on with `--resume`."
        )
    for error in (
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/file"),
        SafetensorError("no header"),
    ):
        with pytest.raises(type(error)), disk_refusals(tmp_path):
            raise error


def test_a_folder_that_is_gone_is_one_sentence_and_a_missing_file_in_one_that_is_there_is_not(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError), disk_refusals(tmp_path / "there"):
        (tmp_path / "there" / "file").read_bytes()
    with pytest.raises(ConfigError) as caught, disk_refusals(tmp_path / "gone"):
        (tmp_path / "gone" / "metrics.jsonl").open("a")
    assert str(caught.value) == (
        f"`output` must stay where it is until the run has ended, but {tmp_path / 'gone'} is gone; put it back and go "
        "on with `--resume`, or begin again."
    )
