"""What a run that goes on reads of its folder, and says of files that are damaged."""

import json
import os
import signal

import pytest

from betahead.errors import DataError
from betahead.runs.config import dump_config, load_config
from betahead.runs.folder import RunFolder
from betahead.runs.resuming import finished_summary, resumption


@pytest.fixture
def run(tmp_path):
    """A folder of a run that was stopped, and its configuration."""
    text = (
        f"{{model: {{name: m}}, data: {{train: x.jsonl, holdout: 0.1}}, beta: {{kind: fixed}}, output: {tmp_path}/run}}"
    )
    config = load_config(text)
    folder = RunFolder.create(tmp_path / "run")
    folder.write_config(dump_config(config))
    folder.write_record({"data": {"train": {"source": "x.jsonl", "sha256": "0"}}})
    return folder, config


def test_the_record_is_what_a_resumption_goes_on_from(run):
    folder, config = run
    assert resumption(config, print).before == folder.record


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices must be integers"),
        ('{"data": {}}', "it names no data"),
        ('{"data": {"train": {"sha256": "0"}}}', "'source'"),
        ('{"data": {"train": {"source": "x"}}, "resumptions": 3}', "it names no data"),
        ('{"data": {"train": {"source": "x"}}, "fit": {"steps": 3}}', "missing"),
        ('{"data": {"train": {"source": "x"}}, "software": {"packages": "auto"}}', "not a mapping"),
    ],
)
def test_a_record_that_is_damaged_is_one_sentence(run, content, detail):
    folder, config = run
    (folder.path / "run.json").write_text(content)
    with pytest.raises(DataError) as caught:
        resumption(config, print)
    path = folder.path / "run.json"
    assert str(caught.value).startswith(f"`{path}` must be the record of the run to resume, but cannot be read (")
    assert detail in str(caught.value)
    assert str(caught.value).endswith("); restore it, or begin a new run in another `output`.")


@pytest.fixture
def impatient():
    """Ends a test that waits for what nobody writes."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("impatient")
def test_a_pipe_in_the_place_of_a_file_is_one_sentence_and_not_waited_for(run):
    folder, config = run
    reads = {"run.json": lambda: resumption(config, print), "summary.json": lambda: finished_summary(folder)}
    for name, read in reads.items():
        (folder.path / name).unlink(missing_ok=True)
        os.mkfifo(folder.path / name)
        with pytest.raises(DataError, match=rf"cannot be read \({name} is no file\); restore it, or begin a new run"):
            read()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"held_out": {}, "pairs": 3}'])
def test_a_summary_that_is_damaged_is_one_sentence(run, content):
    folder, _ = run
    path = folder.path / "summary.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        finished_summary(folder)
    assert str(caught.value).startswith(f"`{path}` must say what the finished run came to, but cannot be read (")
    assert str(caught.value).endswith("); restore it, or begin a new run in another `output`.")


@pytest.mark.parametrize(
    "state",
    [
        {"global_step": 3, "log_history": []},
        {"global_step": 4, "log_history": [{"loss": 1.0}]},
        {"global_step": 4, "log_history": 5},
        [],
    ],
)
def test_a_checkpoint_whose_state_is_damaged_is_skipped(run, state):
    folder, config = run
    checkpoint, said = folder.checkpoints / "checkpoint-4", []
    checkpoint.mkdir()
    text = json.dumps(state)
    (checkpoint / "trainer_state.json").write_text(text)
    manifest = {"schema": 1, "resumable": True, "files": {"trainer_state.json": len(text)}}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert resumption(config, said.append).checkpoint is None
    assert "checkpoint-4 is skipped, because it has a trainer_state.json that is not that of its step" in said[0]
