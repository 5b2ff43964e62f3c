"""JSON that parses, and must not."""

import pytest

from betahead.data.files import file_rows
from betahead.data.formats import pair_from_row
from betahead.data.rows import Row, RowError, named, shown
from betahead.errors import DataError


def failure(path, text):
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        list(file_rows(path, path.name))
    return str(caught.value)


@pytest.mark.parametrize(("name", "where"), [("a.jsonl", "a.jsonl:1"), ("a.json", "a.json")])
def test_a_key_that_stands_twice_is_refused(tmp_path, name, where):
    row = '{"prompt": "q", "chosen": "a", "rejected": "b", "chosen": "c"}'
    assert failure(tmp_path / name, row if name == "a.jsonl" else f"[{row}]") == (
        f"{where}: a JSON object must give each key once, but one gives 'chosen' (str) twice; remove one of the two."
    )
    assert failure(tmp_path / name, '[{"a": {"b": 1, "b": 1}}]' if name == "a.json" else '{"a": {"b": 1, "b": 1}}')


@pytest.mark.parametrize(("name", "where"), [("a.jsonl", "a.jsonl:1"), ("a.json", "a.json")])
def test_a_number_of_thousands_of_digits_is_refused(tmp_path, name, where):
    assert failure(tmp_path / name, '{"strength": ' + "9" * 5000 + "}") == (
        f"{where}: the numbers must be of a size that can be computed with, but one has thousands of digits; correct "
        "it or write it as text."
    )


def test_a_number_beyond_float64_drops_its_row():
    row = Row(values={"prompt": "q", "chosen": "a", "rejected": "b", "strength": 10**400}, where="a:1")
    with pytest.raises(RowError) as caught:
        pair_from_row(row, "explicit")
    assert str(caught.value) == (
        f"a:1: `strength` must be a finite number, but is 1{'0' * 58}… (int) instead; correct it or remove the column."
    )


def test_values_that_cannot_be_written_out_are_shown_nevertheless():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "nested too deeply to be shown (list)"
    assert shown(10**5000) == "too long to be shown (int)"
    assert shown("x" * 10_000_000) == f"'{'x' * 58}… (str)"
    while deep:
        deep = deep.pop()


def test_only_the_first_of_many_columns_are_named():
    assert named(["a", "b"]) == "`a`, `b`"
    assert named(map(str, range(1_000_000))).endswith("`10`, `11`, …")
    assert named(["a" * 100]) == f"`{'a' * 59}…`"


def test_a_role_of_thousands_of_letters_is_shortened():
    row = Row(values={"prompt": [{"role": "user", "content": "q"}], "rejected": "b"}, where="a:1")
    row.values["chosen"] = [{"role": "x" * 5000, "content": "a"}]
    with pytest.raises(RowError) as caught:
        pair_from_row(row, "chat")
    assert str(caught.value) == (
        f"a:1: `chosen` must end with a message of the assistant, but its last message is of '{'x' * 59}…' instead; "
        "remove what follows the answer."
    )
