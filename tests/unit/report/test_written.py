from pathlib import Path

import pytest

from betahead.errors import ConfigError
from betahead.report.page import MOST_BYTES
from betahead.report.written import MOST_RUNS, names_of, write_report


def test_the_page_lies_in_the_first_folder_and_is_below_the_limit(learned):
    report = write_report([learned])
    assert report.path == learned / "report.html"
    assert report.size == report.path.stat().st_size < MOST_BYTES
    assert report.problems == ()


def test_a_folder_without_a_run_gets_a_page_that_says_so(tmp_path):
    report = write_report([tmp_path])
    assert "This folder holds no run." in report.path.read_text(encoding="utf-8")
    assert report.problems == (f"{tmp_path} holds no run.",)


def test_a_folder_without_a_run_beside_a_run_is_said_on_the_page(learned, tmp_path):
    report = write_report([learned, tmp_path], tmp_path / "page.html")
    assert report.problems == (f"{tmp_path} holds no run.",)
    assert f"{tmp_path.name}: prompts.parquet is not there." in report.path.read_text(encoding="utf-8")


def test_runs_of_one_name_are_told_apart_by_their_folders():
    assert names_of([Path("/a/x/run"), Path("/a/y/run"), Path("/a/z")]) == ["x/run", "y/run", "z"]
    assert names_of([Path("/a/run"), Path("/a/run")]) == ["a/run (1)", "a/run (2)"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda f: ([f / "no"], None), "RUN must be the folder of a run or a comparison, but {f}/no does not exist."),
        (
            lambda f: ([f / "a.txt"], None),
            "RUN must be the folder of a run or a comparison, but {f}/a.txt is a file instead.",
        ),
        (
            lambda f: ([f / "c", f], None),
            "A comparison must be alone on its page, but {f}/c stands beside 1 others instead;",
        ),
        (lambda f: ([f] * (MOST_RUNS + 1), None), "RUN must be given 1 to 12 times, but is given 13 times instead."),
        (lambda f: ([f], f / "c"), "--output must be a file, but {f}/c is a folder instead; name the file in it."),
        (
            lambda f: ([f], f / "a.txt" / "b.html"),
            "--output must be a file that can be written, but {f}/a.txt/b.html is not (",
        ),
    ],
)
def test_a_mistake_is_one_sentence(given, message, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "evidence.json").write_text("{}")
    paths, output = given(tmp_path)
    with pytest.raises(ConfigError) as caught:
        write_report(paths, output)
    assert str(caught.value).startswith(message.format(f=tmp_path))


def test_a_page_that_would_be_too_large_is_refused(learned, tmp_path, monkeypatch):
    monkeypatch.setattr("betahead.report.written.MOST_BYTES", 1_000_000)
    with pytest.raises(ConfigError, match=r"A page must stay below 1 MB, but has \d\.\d MB instead; give fewer runs\."):
        write_report([learned], tmp_path / "page.html")
