"""A key for every number that the reference says of a row: what was scored, and by which reference.

An answer's key is made of the prompt's tokens and the answer's own, all of which are scored; that of an answer's first
tokens is the key of an answer that ends there, which has the same score; the key of a log PPL is made of the prompt's
tokens and of which of them count. So a cut answer, another template or other counted tokens are other
keys, while order, sharding, batch, the other answer of the pair and which of the two was preferred are not in them.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from datasets import Dataset

from betahead.forward.prompt import LOG_PPL_FLOOR

KEY_BYTES = 16
RowKeys = tuple[bytes, ...]
"""The keys of a row, in the order of `RowKeyMaker.columns`."""

_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class RowKeyMaker:
    """Makes the keys of rows under one reference.

    Args:
        fingerprint: of the reference, see `reference_fingerprint`.
        columns: names of the numbers that rows have keys for, see `FrozenReference.columns`.
    """

    fingerprint: str
    columns: tuple[str, ...] = ("ref_chosen_logps", "ref_rejected_logps")

    @property
    def wants_log_ppl(self) -> bool:
        """Whether rows have a key for the prompt's log PPL."""
        return "ref_log_ppl" in self.columns

    def of_records(self, records: Iterable[Mapping[str, Any]]) -> list[RowKeys]:
        """The keys of tokenized records, such as those of one batch."""
        return [
            self._keys(
                _bytes(record["prompt_ids"], "<i4"),
                _bytes(record["chosen_ids"], "<i4"),
                _bytes(record["rejected_ids"], "<i4"),
                _bytes(record["ppl_mask"], "u1") if self.wants_log_ppl else b"",
            )
            for record in records
        ]

    def of_dataset(self, dataset: Dataset) -> list[RowKeys]:
        """The keys of all rows, in their order, read from the columns without making Python lists of them."""
        names = ["prompt_ids", "chosen_ids", "rejected_ids", *(["ppl_mask"] if self.wants_log_ppl else [])]
        columns = dataset.select_columns(names).with_format("arrow")
        keys: list[RowKeys] = []
        for start in range(0, len(dataset), _ROWS):
            table = cast("pa.Table", columns[start : start + _ROWS])
            ids = [_row_bytes(table[name], "<i4") for name in names[:3]]
            masks = _row_bytes(table["ppl_mask"], "u1") if self.wants_log_ppl else [b""] * table.num_rows
            keys.extend(self._keys(*row) for row in zip(*ids, masks, strict=True))
        return keys

    def _keys(self, prompt: bytes, chosen: bytes, rejected: bytes, mask: bytes) -> RowKeys:
        start = hashlib.blake2b(key=self.fingerprint.encode(), digest_size=KEY_BYTES, person=b"answer")
        start.update(struct.pack("<q", len(prompt)))
        start.update(prompt)
        keys = {"ref_chosen_logps": _ended(start, chosen), "ref_rejected_logps": _ended(start, rejected)}
        if self.wants_log_ppl:
            counted = hashlib.blake2b(key=self.fingerprint.encode(), digest_size=KEY_BYTES, person=b"log_ppl")
            counted.update(struct.pack("<qd", len(prompt), LOG_PPL_FLOOR))
            counted.update(prompt)
            counted.update(mask)
            keys["ref_log_ppl"] = counted.digest()
        if "ref_chosen_common_logps" in self.columns:
            common = min(len(chosen), len(rejected))
            keys["ref_chosen_common_logps"] = _ended(start, chosen[:common])
            keys["ref_rejected_common_logps"] = _ended(start, rejected[:common])
        return tuple(keys[name] for name in self.columns)


def _ended(start: Any, answer: bytes) -> bytes:
    """The digest of a prompt with this answer."""
    whole = start.copy()
    whole.update(answer)
    return whole.digest()


def _bytes(values: Any, dtype: str) -> bytes:
    return np.asarray(values, dtype=dtype).tobytes()


def _row_bytes(column: pa.ChunkedArray, dtype: str) -> list[bytes]:
    """The content of every row of a column of lists."""
    lists = cast("Any", column.combine_chunks())
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    content, width = values.tobytes(), values.dtype.itemsize
    ends = (np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False)) * width).tolist()
    return [content[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
