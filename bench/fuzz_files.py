"""Files around rows, in every container, whole or damaged on the way."""

import csv
import gzip
import io
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from bench.fuzz_rows import Row

CONTAINERS = ("jsonl", "json", "csv", "jsonl.gz", "json.gz", "csv.gz", "parquet")
"""The endings that are read, and in bytes of which kind."""


def content(rows: list[Row], container: str) -> bytes | None:
    """The bytes of a file with these rows, None where the container cannot hold them."""
    kind = container.removesuffix(".gz")
    if kind == "parquet":
        return _parquet(rows)
    if kind == "csv":
        whole = _csv(rows)
    else:
        lines = [json.dumps(row) for row in rows]
        whole = ("\n".join(lines) if kind == "jsonl" else f"[{', '.join(lines)}]").encode()
    return gzip.compress(whole, compresslevel=1) if container.endswith(".gz") else whole


def _csv(rows: list[Row]) -> bytes:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(stream, escapechar="\\")
    writer.writerow(names)
    for row in rows:
        values = [row.get(name) for name in names]
        writer.writerow(["" if one is None else one if isinstance(one, str) else json.dumps(one) for one in values])
    return stream.getvalue().encode("utf-8", errors="surrogatepass")


def _parquet(rows: list[Row]) -> bytes | None:
    sink = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist(rows), sink)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, ValueError, TypeError):
        return None
    return sink.getvalue()


def saved(rows: list[Row], folder: Path) -> bool:
    """Write the rows as `save_to_disk` does; False where it cannot hold them."""
    try:
        datasets.Dataset(pa.Table.from_pylist(rows)).save_to_disk(folder)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, ValueError, TypeError):
        return False
    return True


_PIECES = st.sampled_from(
    [
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b'"',
        b",",
        b"{",
        b"[" * 2000,
        b'{"a":' * 500,
        b'"chosen": "x", "chosen": "y"',
        b"9" * 5000,
        b"1e999",
        b"NaN",
        b"\\ud800",
        b"PAR1",
        b"\x1f\x8b",
        b"a" * 100_000,
    ]
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with up to three accidents: cut off, flipped, torn out, doubled, inserted, written in another code."""
    found = whole
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        upto = min(len(found), at + draw(st.integers(0, 64)))
        change = draw(st.integers(0, 5))
        if change == 0:
            found = found[:at]
        elif change == 1 and found:
            found = found[:at] + bytes([found[at] ^ draw(st.integers(1, 255))]) + found[at + 1 :]
        elif change == 2:
            found = found[:at] + found[upto:]
        elif change == 3:
            found = found[:upto] + found[at:]
        elif change == 4:
            found = found[:at] + draw(_PIECES) + found[at:]
        else:
            code = draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7"]))
            found = found.decode("utf-8", errors="replace").encode(code)
    return found


def any_bytes(container: str) -> st.SearchStrategy[bytes]:
    """Bytes of no kind at all, some of them in a whole archive."""
    plain = st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=6).map(b"".join))
    return st.one_of(plain, plain.map(gzip.compress)) if container.endswith(".gz") else plain
