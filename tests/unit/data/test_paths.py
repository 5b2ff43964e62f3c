"""What a path means, and what lies there."""

import os
import socket

import pytest

from betahead.data.files import file_rows
from betahead.data.paths import expanded, path_kind, with_home
from betahead.data.texts import paragraphs
from betahead.errors import DataError


def failure(path):
    with pytest.raises(DataError) as caught:
        list(file_rows(path, path.name))
    return str(caught.value)


def test_an_environment_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("PAIRS_FOLDER", raising=False)
    with pytest.raises(DataError) as caught:
        expanded("$PAIRS_FOLDER/a.jsonl")
    assert str(caught.value) == (
        "$PAIRS_FOLDER/a.jsonl must name a file, but the environment variable PAIRS_FOLDER is not set; set it to the "
        "folder that holds the data (`export PAIRS_FOLDER=…`) or write the path out."
    )


def test_the_home_of_nobody_is_no_place():
    assert str(with_home("~no_such_user/a.jsonl")) == "~no_such_user/a.jsonl"
    assert expanded("~no_such_user/a.jsonl") == "~no_such_user/a.jsonl"


def test_kinds_are_told_apart(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    kinds = {
        "file": "file",
        "link": "file",
        "": "folder",
        "pipe": "device",
        "dangling": "nothing",
        "file/x": "nothing",
        "a\0b": "nothing",
        "\ud800": "nothing",
    }
    assert {name: path_kind(tmp_path / name, name) for name in kinds} == kinds


@pytest.mark.parametrize("name", ["pipe.jsonl", "pipe.json", "pipe.csv.gz", "pipe.parquet"])
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert failure(tmp_path / name) == (
        f"{name} must be a file, because it is read more than once, but is a pipe or a device instead; write its "
        "content to a file."
    )


def test_devices_and_sockets_are_refused(tmp_path):
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    assert "is a pipe or a device instead" in failure(tmp_path / "zero.jsonl")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "s.csv"))
        assert "is a pipe or a device instead" in failure(tmp_path / "s.csv")
    with pytest.raises(DataError) as caught:
        list(paragraphs(tmp_path / "zero.jsonl"))
    assert str(caught.value) == (
        f"{tmp_path / 'zero.jsonl'} must be a readable UTF-8 text file, but is a device instead; name a file."
    )


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert failure(tmp_path / "a.jsonl") == (
        "a.jsonl must be readable, but the system says: Too many levels of symbolic links; correct its permissions or "
        "copy it again."
    )


def test_a_name_that_is_too_long_is_refused(tmp_path):
    name = "a" * 300 + ".jsonl"
    assert failure(tmp_path / name) == (
        f"{name} must be readable, but the system says: File name too long; correct its permissions or copy it again."
    )
