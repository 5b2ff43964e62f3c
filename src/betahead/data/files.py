"""Rows of a file on disk: JSONL, JSON, CSV (each also .gz) and Parquet, with errors that name the line."""

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from betahead.data.json_text import parsed_json
from betahead.data.paths import path_kind, unreadable
from betahead.data.rows import Row, shown
from betahead.errors import DataError

ENDINGS = (".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz", ".parquet")

# A small archive can unpack to more than the memory holds: a line, and a list that is read whole, have their limits.
_LONGEST_LINE = 2**26
_LARGEST_LIST = 2**30


def has_known_ending(name: str) -> bool:
    """True for a name that one of the readers below would take."""
    return name.lower().endswith(ENDINGS)


def file_rows(path: Path, name: str) -> Iterator[Row]:
    """The rows of a file.

    Args:
        path: where the file lies.
        name: how errors and `where` call it.

    Raises:
        DataError: a missing, unreadable, truncated, wrongly encoded, malformed or empty file, no file at all, or an
            unknown ending.
    """
    _check_file(path, name)
    reader = _reader(name)
    count = 0
    try:
        for row in reader(path, name):
            count += 1
            yield row
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{name} must be a whole gzip archive, but cannot be unpacked after {count} rows ({error}); "
            "copy or download it again."
        ) from None
    except OSError as error:
        raise unreadable(name, error) from None
    if count == 0:
        raise DataError(f"{name} must hold preference pairs, but is empty instead; check how it was written.")


def _check_file(path: Path, name: str) -> None:
    kind = path_kind(path, name)
    if kind == "folder":
        try:
            inside = sorted(entry.name for entry in path.iterdir() if has_known_ending(entry.name))
        except OSError as error:
            raise unreadable(name, error) from None
        remedy = f"name a file in it, such as {name}/{inside[0]}" if inside else "name a file"
        raise DataError(f"{name} must be a file, but is a folder instead; {remedy}.")
    if kind == "nothing":
        raise DataError(f"{name} must be a file, but does not exist; correct the path (it is taken from {Path.cwd()}).")
    if kind == "device":
        raise DataError(
            f"{name} must be a file, because it is read more than once, but is a pipe or a device instead; write its "
            "content to a file."
        )


def _reader(name: str) -> Callable[[Path, str], Iterator[Row]]:
    ending = name.lower().removesuffix(".gz")
    for known, reader in ((".jsonl", _jsonl), (".json", _json), (".csv", _csv), (".parquet", _parquet)):
        if ending.endswith(known) and has_known_ending(name):
            return reader
    raise DataError(
        f"{name} must end in one of {', '.join(ENDINGS)}, but ends in {''.join(Path(name).suffixes[-2:])!r} instead; "
        "convert or rename it."
    )


def _opened(path: Path, name: str) -> IO[bytes]:
    if name.lower().endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def _decoded_lines(path: Path, name: str) -> Iterator[str]:
    with _opened(path, name) as stream:
        number = 0
        while raw := stream.readline(_LONGEST_LINE + 1):
            number += 1
            if len(raw) > _LONGEST_LINE:
                raise DataError(
                    f"{name}:{number}: a line must be at most {_LONGEST_LINE // 2**20} MiB, but is longer; check that "
                    "it holds one row."
                )
            yield _decoded(raw, name, number)


def _decoded(raw: bytes, name: str, line: int) -> str:
    """The text of these bytes, which begin at a line of the file; its first may begin with a byte order mark."""
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = error.start + len(raw) - len(error.object)  # the mark is not counted there
        line, column = line + raw.count(b"\n", 0, at), at - raw.rfind(b"\n", 0, at)
        raise DataError(
            f"{name}:{line}: the text must be UTF-8, but byte {column} of the line is "
            f"0x{raw[at]:02x} instead; convert the file to UTF-8."
        ) from None


def _document(path: Path, name: str) -> str:
    with _opened(path, name) as stream:
        raw = stream.read(_LARGEST_LIST + 1)
    if len(raw) > _LARGEST_LIST:
        raise DataError(
            f"{name} must be at most {_LARGEST_LIST // 2**30} GiB as a JSON list, which is read whole, but is larger; "
            "write one object a line and let the name end in `.jsonl`."
        )
    return _decoded(raw, name, 1)


def _mapping(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f'{place}: a row must be a JSON object such as {{"prompt": …}}, but is {shown(value)} instead; '
            "correct or remove it."
        )
    return cast("dict[str, Any]", value)


def _jsonl(path: Path, name: str) -> Iterator[Row]:
    for number, line in enumerate(_decoded_lines(path, name), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        value = parsed_json(line.strip(), lambda _, where=where: where, whole=where)
        yield Row(values=_mapping(value, where), where=where)


def _json(path: Path, name: str) -> Iterator[Row]:
    document = _document(path, name)
    if not document.strip():
        return
    try:
        value = parsed_json(document, lambda line: f"{name}:{line}", whole=name)
    except DataError as error:
        if "Extra data" in str(error):
            raise DataError(
                f"{name} must hold one JSON list, but holds one object a line instead; rename it to end in `.jsonl`."
            ) from None
        raise
    if not isinstance(value, list):
        raise DataError(
            f"{name} must hold one JSON list of rows, but holds {shown(value)} instead; put the rows in a list."
        )
    for number, item in enumerate(cast("list[Any]", value), start=1):
        where = f"{name}: row {number}"
        yield Row(values=_mapping(item, where), where=where)


def _csv(path: Path, name: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_LINE)
    reader = csv.reader(_decoded_lines(path, name), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for fields in reader:
            where, line = f"{name}:{line}", reader.line_num + 1
            if header is None:
                header = fields
                _check_header(header, where)
            elif fields and len(fields) != len(header):
                raise DataError(
                    f"{where}: a row must have the header's {len(header)} fields, but has {len(fields)} instead; "
                    "put quotes around text with commas or line breaks."
                )
            elif fields:
                yield Row(values=dict(zip(header, fields, strict=True)), where=where)
    except csv.Error as error:
        raise DataError(
            f"{name}:{reader.line_num}: the text must be CSV, but is malformed ({error}); check its quotes."
        ) from None


def _check_header(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise DataError(
            f"{where}: a column must have a name of its own, but two are called {shown(twice)}; rename or remove one."
        )


def _parquet(path: Path, name: str) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            _check_header(file.schema_arrow.names, name)
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values=values, where=f"{name}: row {number}")
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, MemoryError) as error:
        # Bytes that were changed on the way make pyarrow say any of these.
        detail = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"{name} must be a whole Parquet file, but cannot be read after {number} rows ({detail}); "
            "copy or download it again."
        ) from None
