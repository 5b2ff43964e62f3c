"""Files that were damaged, or made to do damage."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from betahead.data import files
from betahead.data.files import file_rows
from betahead.errors import DataError

ROWS = [{"prompt": "q" * 50, "chosen": "a" * 50, "rejected": str(number) * 50} for number in range(40)]


def read(path):
    return [row.values for row in file_rows(path, path.name)]


def failure(path):
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


def parquet(rows=ROWS):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def test_a_line_of_ten_megabytes_is_read(tmp_path):
    text = "é" * 5_000_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": text}, ensure_ascii=False) + "\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text(f"prompt,chosen\n{text},x\n", encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == [{"prompt": text}]
    assert read(tmp_path / "a.csv") == [{"prompt": text, "chosen": "x"}]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_small_archive_with_an_endless_line_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"x\n" + b"a" * 2**27, compresslevel=1))
    shown = (
        "the text must be JSON, but is malformed" if name == "a.jsonl.gz" else "a line must be at most 64 MiB, but is"
    )
    assert shown in failure(tmp_path / name)
    (tmp_path / name).write_bytes(gzip.compress(b"a" * 2**27, compresslevel=1))
    assert failure(tmp_path / name) == (
        f"{name}:1: a line must be at most 64 MiB, but is longer; check that it holds one row."
    )


def test_a_list_that_is_larger_than_is_read_whole_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_LARGEST_LIST", 2**10)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * 2**20))
    assert "a.json.gz must be at most 0 GiB as a JSON list, which is read whole, but is larger; write one" in failure(
        tmp_path / "a.json.gz"
    )


def test_a_column_that_is_named_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected,chosen\nq,a,b,c\n")
    assert failure(tmp_path / "a.csv") == (
        "a.csv:1: a column must have a name of its own, but two are called 'chosen' (str); rename or remove one."
    )
    pq.write_table(pa.table([pa.array(["q"]), pa.array(["a"])], names=["prompt", "prompt"]), tmp_path / "a.parquet")
    assert failure(tmp_path / "a.parquet") == (
        "a.parquet: a column must have a name of its own, but two are called 'prompt' (str); rename or remove one."
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_byte_after_a_byte_order_mark_is_counted_from_the_beginning_of_the_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbfab\xff\n")
    assert failure(tmp_path / name) == (
        f"{name}:1: the text must be UTF-8, but byte 6 of the line is 0xff instead; convert the file to UTF-8."
    )


def test_a_byte_in_a_later_line_of_a_list_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b'[\n{"prompt":\n"\xff"}]')
    assert failure(tmp_path / "a.json") == (
        "a.json:3: the text must be UTF-8, but byte 2 of the line is 0xff instead; convert the file to UTF-8."
    )


@pytest.mark.parametrize("code", ["utf-16", "utf-32", "utf-16-le"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_other_unicode_encodings_are_refused(tmp_path, name, code):
    (tmp_path / name).write_bytes(f'[{{"prompt": "q", "chosen": "é"}}]\n"{chr(0x3000)}"'.encode(code))
    assert "must be " in failure(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_parquet_file_that_was_cut_off_is_one_sentence(tmp_path, share):
    whole = parquet()
    (tmp_path / "a.parquet").write_bytes(whole[: int(share * len(whole))])
    assert failure(tmp_path / "a.parquet").startswith(
        "a.parquet must be a whole Parquet file, but cannot be read after"
    )


def test_a_parquet_file_with_text_that_is_none_is_one_sentence(tmp_path):
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"prompt": broken}), tmp_path / "a.parquet")
    assert failure(tmp_path / "a.parquet").startswith(
        "a.parquet must be a whole Parquet file, but cannot be read after 0 rows ('utf-8' codec can't decode"
    )


@pytest.mark.parametrize("at", [8, 20, 32, 60])
def test_an_archive_that_was_changed_is_one_sentence(tmp_path, at):
    whole = bytearray(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    whole[at] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(bytes(whole))
    if at != 8:  # a byte of the header's time and flags may be any
        assert failure(tmp_path / "a.jsonl.gz")
    else:
        assert len(read(tmp_path / "a.jsonl.gz")) == len(ROWS)
