"""`betahead report` as a person and as a program call it."""

import json

import pytest
import tiny_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("run")).path


def test_a_report_is_one_file_whose_place_is_printed(run, betahead, tmp_path):
    code, out, err = betahead("report", run, "--output", tmp_path / "a" / "page.html", "--open", "no")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path}/a/page.html (") and out.endswith(" MB)\n")
    assert (tmp_path / "a" / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_programs_read_path_size_and_problems(run, betahead):
    code, out, _ = betahead("report", run, "--json")
    assert code == 0
    size = (run / "report.html").stat().st_size
    assert json.loads(out) == {"path": str(run / "report.html"), "bytes": size, "problems": []}


def test_a_folder_without_a_run_gets_its_page_and_exit_code_1(betahead, tmp_path):
    code, out, err = betahead("report", tmp_path)
    assert (code, err) == (1, f"warning: {tmp_path} holds no run.\n")
    assert out.startswith(f"{tmp_path}/report.html")


def test_a_path_that_does_not_exist_is_one_sentence_and_exit_code_2(betahead, tmp_path):
    code, _, err = betahead("report", tmp_path / "no")
    assert code == 2
    assert err == f"error: RUN must be the folder of a run or a comparison, but {tmp_path}/no does not exist.\n"


def test_a_browser_is_opened_when_asked_for_and_never_for_programs(run, betahead, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    betahead("report", run, "--output", tmp_path / "page.html")
    betahead("report", run, "--output", tmp_path / "page.html", "--json")
    assert opened == []
    betahead("report", run, "--output", tmp_path / "page.html", "--open", "yes")
    assert opened == [(tmp_path / "page.html").as_uri()]
