"""run.json: what is needed to know, and to repeat, what ran."""

import hashlib
import json
import shlex
from datetime import UTC, datetime

import datasets
import pytest

from betahead import __version__
from betahead.errors import DataError
from betahead.runs.record import SCHEMA_VERSION, data_fingerprint, run_record


def test_the_record_holds_versions_hardware_seed_command_and_data():
    command = ["betahead", "train", "a b.yaml", "beta.beta=0.1"]
    record = run_record(seed=7, data={"train": {"source": "x", "sha256": "0"}}, command=command)
    assert record["schema_version"] == SCHEMA_VERSION
    assert record["seed"] == 7
    assert shlex.split(record["command"]) == command
    assert record["data"] == {"train": {"source": "x", "sha256": "0"}}
    assert record["software"]["packages"]["betahead"] == __version__
    assert record["software"]["packages"]["transformers"]
    assert record["hardware"]["cpus"] >= 1 and record["hardware"]["memory_gib"] > 0
    assert datetime.fromisoformat(record["started"]).tzinfo == UTC
    json.dumps(record, allow_nan=False)


def test_the_command_is_the_one_this_process_was_started_with(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/bin/betahead", "train", "dpo", "seed=3"])
    assert run_record(seed=3, data={})["command"] == "betahead train dpo seed=3"


def test_a_file_is_identified_by_its_bytes_and_named_as_the_user_did(tmp_path, monkeypatch):
    (tmp_path / "pairs.jsonl").write_bytes(b"{}\n")
    monkeypatch.setenv("PAIRS", str(tmp_path))
    expected = {"source": "$PAIRS/pairs.jsonl", "sha256": hashlib.sha256(b"{}\n").hexdigest()}
    assert data_fingerprint("$PAIRS/pairs.jsonl") == expected


def saved(folder, rows, fingerprint="0123"):
    """A saved data set with these rows under a fingerprint that another one may have."""
    made = datasets.Dataset.from_dict(rows)
    made._fingerprint = fingerprint
    made.save_to_disk(str(folder))
    return data_fingerprint(str(folder))


def test_a_saved_data_set_is_identified_by_its_rows_whatever_its_fingerprint_says(tmp_path):
    one, copied, other = (saved(tmp_path / str(at), {"a": [row]}) for at, row in enumerate((1, 1, 2)))
    assert one["fingerprint"] == copied["fingerprint"] == other["fingerprint"] == "0123"
    assert one["sha256"] == copied["sha256"] != other["sha256"]
    made_otherwise = saved(tmp_path / "otherwise", {"a": [1]}, fingerprint="4567")
    assert (made_otherwise["sha256"], made_otherwise["fingerprint"]) == (one["sha256"], "4567")


def test_a_saved_data_set_in_other_shards_has_another_digest(tmp_path):
    rows = datasets.Dataset.from_dict({"a": [1, 2]})
    for shards in (1, 2):
        rows.save_to_disk(str(tmp_path / str(shards)), num_shards=shards)
    found = [data_fingerprint(str(tmp_path / str(shards)))["sha256"] for shards in (1, 2)]
    assert found[0] != found[1]


def test_columns_that_a_saved_data_set_hides_are_no_part_of_it(tmp_path):
    rows = datasets.Dataset.from_dict({"a": [1], "b": [2]})
    rows.save_to_disk(str(tmp_path / "all"))
    rows.with_format(columns=["a"]).save_to_disk(str(tmp_path / "some"))
    assert data_fingerprint(str(tmp_path / "all"))["sha256"] != data_fingerprint(str(tmp_path / "some"))["sha256"]


def test_a_saved_data_set_of_several_splits_is_identified_by_the_one_that_is_read(tmp_path):
    splits = {name: datasets.Dataset.from_dict({"a": [row]}) for name, row in (("train", 1), ("test", 2))}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "many"))
    splits["test"].save_to_disk(str(tmp_path / "one"))
    found = {name: data_fingerprint(str(tmp_path / "many"), name)["sha256"] for name in splits}
    assert found["test"] == data_fingerprint(str(tmp_path / "one"))["sha256"] != found["train"]


def test_a_hub_data_set_is_identified_by_the_fingerprint_of_its_split(monkeypatch):
    asked = []

    def loaded(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_dict({"a": [1]})

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    assert set(data_fingerprint("org/pairs:test", "train")) == {"source", "fingerprint"}
    data_fingerprint("org/pairs", "train")
    assert asked == [("org/pairs", "test"), ("org/pairs", "train")]


def test_an_environment_variable_that_is_not_set_is_one_sentence(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(DataError, match="environment variable NOWHERE is not set"):
        data_fingerprint("$NOWHERE/x.jsonl")
