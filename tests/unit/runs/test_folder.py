"""The run folder: its files, and what it refuses."""

import json

import pytest

from betahead.errors import ConfigError
from betahead.runs.folder import RunFolder, check_output

TOKEN = "hf_" + "a1B2" * 9


def test_a_new_folder_has_the_places_for_checkpoints_and_failures(tmp_path):
    run = RunFolder.create(tmp_path / "runs" / "one")
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoints", "failures"]
    assert not run.finished


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "one").mkdir()
    assert RunFolder.create(tmp_path / "one").path == tmp_path / "one"


@pytest.mark.parametrize(
    ("name", "held"), [("run.json", "another run"), ("DONE", "another run"), ("notes.txt", "other files")]
)
def test_a_folder_that_holds_anything_is_refused_and_left_alone(tmp_path, name, held):
    (tmp_path / name).write_text("x")
    with pytest.raises(ConfigError) as caught:
        RunFolder.create(tmp_path)
    remedy = "choose another (`output=runs/NAME`) or remove it"
    if name == "run.json":
        remedy = "go on with it (`--resume`), choose another (`output=runs/NAME`) or remove it"
    assert str(caught.value) == (
        f"`output` must be a folder of its own, but {tmp_path} holds {held} already; {remedy}."
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError) as caught:
        check_output(file)
    assert str(caught.value) == f"`output` must be a folder, but {file} is a file instead; choose another name."
    with pytest.raises(ConfigError) as caught:
        check_output(file / "run")
    assert str(caught.value) == f"`output` must lie in a folder, but {file} is a file instead; choose another name."


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError) as caught:
        check_output(tmp_path / "run")
    assert str(caught.value) == f"`output` must be writable, but {tmp_path} is not; choose a folder of yours."


@pytest.mark.parametrize(
    ("name", "reason"), [("n" * 300, "File name too long"), ("/proc/run", "No such file or directory")]
)
def test_a_file_system_that_refuses_is_one_sentence(tmp_path, name, reason):
    path = tmp_path / name
    with pytest.raises(ConfigError) as caught:
        RunFolder.create(path)
    assert str(caught.value) == f"`output` must be usable, but {path} is not ({reason}); choose another."


def test_checking_creates_nothing(tmp_path):
    check_output(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_can_be_opened_and_others_cannot(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(run.path)
    assert str(caught.value) == (
        f"RUN must be the folder of a run, but {run.path} holds no run.json; name the run's `output`."
    )
    with pytest.raises(ConfigError, match=r"RUN must be the folder of a run, but .*none is not a folder;"):
        RunFolder.open(tmp_path / "none")
    run.write_record({"seed": 3})
    with pytest.raises(ConfigError) as caught:
        RunFolder.open(run.path)
    assert str(caught.value) == f"RUN must be a finished run, but {run.path} has no file DONE; train it again."
    run.finish({"accuracy": 0.5})
    assert RunFolder.open(run.path).record == {"seed": 3}
    assert json.loads((run.path / "summary.json").read_text()) == {"accuracy": 0.5}
    assert run.finished


def test_done_is_missing_when_the_summary_could_not_be_written(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    with pytest.raises(AssertionError):
        run.finish({"model": object()})
    assert not run.finished


def test_metrics_are_one_json_object_a_line(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.log_metrics({"step": 1, "loss": 0.5})
    run.log_metrics({"step": 2, "loss": float("nan"), "beta/max": float("inf")})
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert rows == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": "nan", "beta/max": "inf"}]


def test_samples_are_one_json_object_a_line_with_their_own_letters(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.add_sample({"prompt": "Größe\n東京"})
    assert run.samples.read_text(encoding="utf-8") == '{"prompt": "Größe\\n東京"}\n'


def test_no_token_reaches_the_folder(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.write_config(f"model:\n  name: https://me:{TOKEN}@hub/x\n  api_key: abc\n")
    run.write_record({"command": f"betahead train x --token {TOKEN}", "hub_token": "short", "list": [TOKEN]})
    run.finish({"path": TOKEN})
    for path in run.path.rglob("*"):
        if path.is_file():
            assert TOKEN not in path.read_text()
            assert "short" not in path.read_text()
    assert run.record == {
        "command": "betahead train x --token <redacted>",
        "hub_token": "<redacted>",
        "list": ["hf_<redacted>"],
    }


HISTORY = [{"loss": 0.5, "epoch": 0.1, "step": 1}, {"eval_loss": float("nan"), "epoch": 0.1, "step": 1}]


def test_the_log_is_cut_back_to_the_rows_of_a_trainers_history(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    for row in [*HISTORY, {"loss": 0.4, "step": 2}, {"loss": 0.3, "step": 3}]:
        run.log_metrics({"step": row["step"], **row})
    lines = run.metrics.read_bytes().splitlines(keepends=True)
    run.keep_metrics(HISTORY)
    assert run.metrics.read_bytes() == b"".join(lines[:2])


@pytest.mark.parametrize("left", [0, 1, 20, 60])
def test_rows_that_a_crash_swallowed_are_written_again(tmp_path, left):
    run = RunFolder.create(tmp_path / "run")
    for row in HISTORY:
        run.log_metrics({"step": row["step"], **row})
    wanted = run.metrics.read_bytes()
    run.metrics.write_bytes(wanted[:left])
    run.keep_metrics(HISTORY)
    assert run.metrics.read_bytes() == wanted
