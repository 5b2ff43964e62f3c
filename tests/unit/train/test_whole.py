"""A checkpoint is whole or not there, whatever a process was doing when it was killed, and whatever the clock says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from betahead.train.whole import (
    MANIFEST,
    UNFINISHED,
    begin,
    checkpoints_in,
    clear_unfinished,
    finish,
    keep_few,
    problem_of,
    remove,
)


def written(output: Path, step: int, text: str = "weights", *, resumable: bool = True) -> Path:
    staged = begin(output, step)
    (staged / "model.safetensors").write_text(text)
    (staged / "inner").mkdir()
    (staged / "inner" / "part").write_text("more")
    return finish(staged, resumable=resumable)


def test_a_finished_checkpoint_is_in_its_place_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    place = written(tmp_path, 20)
    assert place == tmp_path / "checkpoint-20"
    assert list(tmp_path.iterdir()) == [place]
    assert problem_of(place) == ""
    manifest = json.loads((place / MANIFEST).read_text())
    assert manifest["files"] == {"inner/part": 4, "model.safetensors": 7}


def test_the_last_one_is_that_of_the_highest_step_whatever_the_clock_said(tmp_path: Path) -> None:
    places = [written(tmp_path, step) for step in (9, 100, 20)]
    for place, year in zip(places, (4e9, 1e8, 2e9), strict=True):
        os.utime(place, (year, year))
    found = checkpoints_in(tmp_path)
    assert [path.name for path in found.whole] == ["checkpoint-9", "checkpoint-20", "checkpoint-100"]
    assert found.last == tmp_path / "checkpoint-100"
    keep_few(tmp_path, 2, [places[1]])
    assert [path.name for path in checkpoints_in(tmp_path).whole] == ["checkpoint-20", "checkpoint-100"]


def test_the_newest_and_the_best_one_stay_whatever_the_limit(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        written(tmp_path, step)
    keep_few(tmp_path, 1, [tmp_path / "checkpoint-20", tmp_path / "checkpoint-40"])
    assert [path.name for path in checkpoints_in(tmp_path).whole] == ["checkpoint-20", "checkpoint-40"]
    keep_few(tmp_path, None, [])
    assert len(checkpoints_in(tmp_path).whole) == 2


def test_a_second_one_of_the_same_step_takes_the_place_of_the_first(tmp_path: Path) -> None:
    written(tmp_path, 20, "old")
    place = written(tmp_path, 20, "new")
    assert (place / "model.safetensors").read_text() == "new"
    assert list(tmp_path.iterdir()) == [place]


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5, 6):
        written(tmp_path, step, resumable=step != 6)
    at = [tmp_path / f"checkpoint-{step}" for step in range(7)]
    (at[1] / MANIFEST).unlink()
    (at[2] / "inner" / "part").unlink()
    (at[3] / "model.safetensors").write_text("we")
    (at[4] / MANIFEST).write_text("{")
    (at[5] / MANIFEST).write_text('{"schema": 9, "resumable": true, "files": {}}')
    assert [problem_of(folder) for folder in at[1:]] == [
        "has no manifest.json, which is written last",
        "lacks inner/part",
        "has 2 bytes of model.safetensors instead of 7",
        "has a manifest.json that cannot be read (JSONDecodeError)",
        "is of schema 9, which this version does not know",
        "holds the model alone (`save_only_model`)",
    ]
    found = checkpoints_in(tmp_path)
    assert found.last is None
    assert list(found.skipped) == at[1:]


@pytest.mark.parametrize("name", [MANIFEST, "trainer_state.json", "model.safetensors", "inner/part"])
def test_a_pipe_in_a_checkpoint_is_said_and_not_waited_for(name: str, tmp_path: Path) -> None:
    place = written(tmp_path, 1)
    (place / name).unlink(missing_ok=True)
    os.mkfifo(place / name)
    # In a process of its own, which a reader of the pipe would keep for ever.
    asked = "import sys, pathlib, betahead.train.whole as whole; print(whole.problem_of(pathlib.Path(sys.argv[1])))"
    words = [sys.executable, "-c", asked, str(place)]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == f"holds {name}, which is neither a file nor a folder\n"


def test_only_those_after_the_last_whole_one_are_skipped(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        written(tmp_path, step)
    for step in (10, 30):
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").unlink()
    found = checkpoints_in(tmp_path)
    assert found.last == tmp_path / "checkpoint-20"
    assert found.skipped == {tmp_path / "checkpoint-30": "lacks model.safetensors"}


_WRITER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from betahead.train.whole import begin, finish, keep_few
left = int(sys.argv[2])

def killed(event, arguments):
    global left
    if event in {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "os.scandir"}:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(killed)
output = Path(sys.argv[1])
for step in (20, 30):  # 20 is there already
    staged = begin(output, step)
    (staged / "model.safetensors").write_text("new weights")
    finish(staged, resumable=True)
keep_few(output, 1, [output / "checkpoint-30"])
"""


def killed_at(output: Path, event: int) -> bool:
    """Whether the writer was killed before it was done."""
    source = str(Path(__file__).parents[3] / "src")
    ended = subprocess.run([sys.executable, "-S", "-c", _WRITER, str(output), str(event), source], check=False)
    assert ended.returncode in (0, -9)
    return ended.returncode != 0


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_writer_killed_at_any_call_of_the_file_system_leaves_whole_checkpoints_only(
    tmp_path: Path, stride: int
) -> None:
    kills, event, interrupted = 0, 1, 0
    while True:
        output = tmp_path / str(event)
        written(output, 10, "old"), written(output, 20, "old")
        if not killed_at(output, event):
            break
        kills, event = kills + 1, event + stride
        # A folder in its place is whole or, in the middle of a replacement, not there.
        assert not checkpoints_in(output).damaged
        interrupted += (output / UNFINISHED).exists()
        half = clear_unfinished(output)
        found = checkpoints_in(output)
        assert not found.damaged
        assert not (output / UNFINISHED).exists()
        assert found.last is not None
        assert int(found.last.name.removeprefix("checkpoint-")) >= 20
        assert all(path.name in ("checkpoint-20", "checkpoint-30") for path in half)
    assert kills >= 5
    assert interrupted >= 3
    assert [path.name for path in checkpoints_in(output).whole] == ["checkpoint-30"]


def test_removing_hides_a_checkpoint_at_once(tmp_path: Path) -> None:
    remove(written(tmp_path, 20))
    assert list(tmp_path.iterdir()) == []
