import gzip
from pathlib import Path

import pytest

from betahead.data.texts import is_plain_text, paragraphs
from betahead.errors import DataError

BOOK = "One line\nand its second.\n\n\n  \nAnother paragraph.  \r\n\nThe last"
WANTED = ["One line\nand its second.", "Another paragraph.", "The last"]


@pytest.mark.parametrize("ending", [".txt", ".txt.gz"])
def test_blank_lines_part_paragraphs(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"book{ending}"
    path.write_bytes(gzip.compress(BOOK.encode()) if ending.endswith(".gz") else BOOK.encode())
    assert is_plain_text(str(path))
    assert list(paragraphs(path)) == WANTED


@pytest.mark.parametrize("name", ["pairs.jsonl", "txt", "a.txt.zip", "train"])
def test_other_names_are_no_plain_text(name: str) -> None:
    assert not is_plain_text(name)


@pytest.mark.parametrize(
    ("content", "detail"), [(b"\xff\xfe\xfa", "utf-8"), (None, "No such file")], ids=["not UTF-8", "missing"]
)
def test_a_file_that_is_no_text_is_refused_in_one_sentence(tmp_path: Path, content: bytes | None, detail: str) -> None:
    path = tmp_path / "book.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"must be a readable UTF-8 text file, but is not .*{detail}.*; restore it"):
        list(paragraphs(path))


def test_a_cut_archive_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "book.txt.gz"
    path.write_bytes(gzip.compress(BOOK.encode())[:-9])
    with pytest.raises(DataError, match="must be a readable UTF-8 text file"):
        list(paragraphs(path))
