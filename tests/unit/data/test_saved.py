"""Folders of `save_to_disk` whose files were changed by somebody."""

import json

import datasets
import pytest

from betahead.data.sources import source_rows
from betahead.errors import DataError

ROWS = [{"prompt": "Q", "chosen": "a", "rejected": "b"}]


@pytest.fixture
def one(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
    return tmp_path / "one"


def failure(source):
    with pytest.raises(DataError) as caught:
        list(source_rows(source))
    return str(caught.value)


def test_a_file_outside_of_the_folder_is_not_read(one, tmp_path):
    datasets.Dataset.from_list([{"prompt": "secret", "chosen": "a", "rejected": "b"}]).save_to_disk(tmp_path / "two")
    state = json.loads((one / "state.json").read_text())
    for elsewhere in ("../two/data-00000-of-00001.arrow", str(tmp_path / "two" / "data-00000-of-00001.arrow")):
        state["_data_files"] = [{"filename": elsewhere}]
        (one / "state.json").write_text(json.dumps(state))
        assert failure(one).startswith(f"{one} must hold all of its files, but names '")
        assert failure(one).endswith(", which is outside of it; write it again.")


def test_a_split_outside_of_the_folder_is_not_read(one, tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset_dict.json").write_text(json.dumps({"splits": ["../one"]}))
    assert failure(tmp_path / "two") == (
        f"{tmp_path / 'two'} must hold all of its files, but names '../one' (str), which is outside of it; write it "
        "again."
    )


@pytest.mark.parametrize(
    "state", ["[]", "{}", "nonsense", '{"_data_files": 3}', "[" * 100_000, '{"_data_files": [{}]}']
)
def test_a_state_of_another_shape_is_one_sentence(one, state):
    (one / "state.json").write_text(state)
    assert failure(one).startswith(f"{one} must be a folder written by `save_to_disk`, but cannot be read (")


def test_a_file_that_was_cut_off_is_one_sentence(one):
    (file,) = one.glob("*.arrow")
    file.write_bytes(file.read_bytes()[:200])
    assert failure(one).startswith(f"{one} must be ")
