import json
from itertools import islice, repeat

import datasets
import pytest

from betahead.data import sources
from betahead.data.sources import hub_rows, source_name, source_rows
from betahead.errors import DataError

ROWS = [{"prompt": "Q", "chosen": "a", "rejected": "b"}, {"prompt": "R", "chosen": "c", "rejected": "d"}]


def values(source, **settings):
    return [dict(row.values) for row in source_rows(source, **settings)]


def failure(source, **settings):
    with pytest.raises(DataError) as caught:
        values(source, **settings)
    return str(caught.value)


def jsonl(path):
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_paths_lists_and_data_sets_give_the_same_rows(tmp_path):
    path = jsonl(tmp_path / "a.jsonl")
    table = datasets.Dataset.from_list(ROWS)
    for source in (str(path), path, ROWS, tuple(ROWS), table, table.to_iterable_dataset()):
        assert values(source) == ROWS
    assert [row.where for row in source_rows(ROWS)] == ["row 1", "row 2"]
    assert [row.where for row in source_rows(path)] == [f"{path}:1", f"{path}:2"]
    assert source_name(table) == "the data set"


def test_environment_variables_in_paths_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("PAIRS_FOLDER", str(tmp_path))
    jsonl(tmp_path / "a.jsonl")
    assert values("$PAIRS_FOLDER/a.jsonl") == ROWS
    assert values("${PAIRS_FOLDER}/a.jsonl") == ROWS


def test_saved_data_sets_are_read_with_their_splits(tmp_path):
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "two")
    assert values(tmp_path / "one") == ROWS
    assert values(tmp_path / "two", split="test") == ROWS[1:]
    assert failure(tmp_path / "two", split="dev") == (
        f"{tmp_path / 'two'} must have the split `dev`, but has `train`, `test` instead; choose one of these."
    )


def test_a_damaged_saved_data_set_is_refused(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    message = failure(tmp_path)
    assert message.startswith(f"{tmp_path} must be a folder written by `save_to_disk`, but cannot be read (")


def test_a_split_is_taken_from_a_dictionary_of_data_sets():
    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})
    assert values(splits) == ROWS
    assert failure(splits, split="test") == (
        "the data set must have the split `test`, but has `train` instead; choose one of these."
    )


def test_a_data_set_is_loaded_by_name_and_split(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "named"
    folder.mkdir()
    jsonl(folder / "train.jsonl")
    rows = list(hub_rows(str(folder), "train"))
    assert [dict(row.values) for row in rows] == ROWS
    assert rows[1].where == f"{folder}: row 2"


def test_a_hub_name_may_name_its_split(monkeypatch):
    asked = []

    def load(name, split):
        asked.append((name, split))
        return ROWS

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert values("org/data:test") == ROWS
    assert values("org/data.v2", split="dev") == ROWS
    assert asked == [("org/data", "test"), ("org/data.v2", "dev")]


def test_a_name_that_neither_disk_nor_hub_knows_is_refused(monkeypatch):
    def load(name, split):
        raise ConnectionError("Couldn't reach the Hub.")

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert failure("org/data") == (
        "'org/data' (split 'train') must be a file or a data set of the Hub, but there is no such file and the Hub's "
        "answer was: Couldn't reach the Hub; check the name, the split (write `org/data:SPLIT`) and the connection."
    )


def test_a_missing_file_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert failure("data/pairs.jsonl").startswith("data/pairs.jsonl must be a file, but does not exist;")
    assert failure("pairs").startswith("pairs must be a file, but does not exist;")


def test_sources_of_another_kind_are_refused():
    assert failure(3) == (
        "the preference data must be a path, a Hub name, a data set or a list of dicts, but is 3 (int) instead."
    )
    assert failure("  ") == "the preference data must be a path or a Hub name, but is an empty text instead."
    assert failure([]) == "the data set must hold preference pairs, but is empty instead."
    assert failure(["Q"]) == "row 1: a row must be a dict with `chosen` and `rejected`, but is 'Q' (str) instead."


def test_a_stream_says_how_much_of_it_is_in_memory_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sources, "_TOLD_EVERY", 1000)
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    rows = source_rows(datasets.IterableDataset.from_generator(lambda: repeat(row)))
    assert len(list(islice(rows, 2500))) == 2500
    assert caplog.messages == [
        f"data: {count} rows of a stream are in memory, and it is read to its end; of one that has none, give "
        "`stream.take(ROWS)`"
        for count in ("1,000", "2,000")
    ]
    caplog.clear()
    assert len(list(source_rows([row] * 2500))) == 2500
    assert not caplog.messages
