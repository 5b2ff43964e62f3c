"""A frozen reference with a memory: what it has said of a row once is looked up by the row's content."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from betahead.data.passes import PassTokens
from betahead.errors import CacheError
from betahead.reference.cache import ReferenceCache
from betahead.reference.fingerprint import frozen_marks, learns, reference_fingerprint
from betahead.reference.frozen import FrozenReference
from betahead.reference.row_keys import KEY_BYTES, RowKeyMaker, RowKeys
from betahead.types import Pairs, ReferenceScores

KEYS = "row_keys"
"""Where a batch holds the keys of its rows, as bytes (pairs, numbers, 16), when one of them is not in the cache."""


class CachedReference:
    """Scores from a cache, and from the reference where the cache has none.

    To be made before the reference can have been trained, and in the autocast context that it is scored in: what it is
    at that moment is what the cache holds from then on.

    Args:
        reference: the model that scores.
        folder: the cache; each reference has a folder of its own in it, named by its fingerprint.
        device: where the model is.
        read_only: never write; a row that is missing is an error then.

    Raises:
        CacheError: a folder that is something else, or weights that have no fingerprint.
    """

    def __init__(
        self, reference: FrozenReference, folder: Path, *, device: torch.device, read_only: bool = False
    ) -> None:
        above = next((path for path in (folder, *folder.parents) if path.exists()), folder)
        if above.exists() and not above.is_dir():
            raise CacheError(
                f"`reference.cache` must be `auto`, `live` or a folder, but {above} is a file instead; name another."
            )
        self.reference = reference
        self.device = device
        self._marks = frozen_marks(reference)
        self.fingerprint = reference_fingerprint(reference, device)
        self.keys = RowKeyMaker(fingerprint=self.fingerprint, columns=reference.columns)
        self.folder = folder
        self.cache = ReferenceCache(folder / self.fingerprint, read_only=read_only)

    def scores(self, batch: Pairs, records: Sequence[Mapping[str, Any]]) -> ReferenceScores:
        """The scores of a batch: from the cache when it has all of them, else scored now and kept.

        Args:
            batch: the pairs.
            records: the tokenized records that it was made of, in the same order.

        Raises:
            CacheError: a row is missing in a cache for reading only.
        """
        keys = self.keys.of_records(records)
        missing = self.cache.missing(keys)
        if missing:
            self.check_complete(missing, lambda row: str(records[row].get("prompt", "")))
            return self.scored(batch, keys)
        device = batch.input_ids.device
        numbers = zip(*([self.cache[key] for key in row] for row in keys), strict=True)
        return ReferenceScores(
            **{
                name.removeprefix("ref_"): torch.tensor(column, dtype=torch.float32, device=device)
                for name, column in zip(self.keys.columns, numbers, strict=True)
            }
        )

    def scored(self, batch: Pairs, keys: Sequence[RowKeys]) -> ReferenceScores:
        """What the reference says of a batch now, kept under these keys.

        Raises:
            CacheError: weights that do not learn have been changed since the cache was opened.
        """
        if frozen_marks(self.reference) != self._marks:
            self.check_unchanged()
            self._marks = frozen_marks(self.reference)
        scores = self.reference.scores(batch)
        columns = scores.columns()
        values = torch.stack([columns[name].float() for name in self.keys.columns], dim=1).flatten().tolist()
        self.cache.add(dict(zip((key for row in keys for key in row), values, strict=True)))
        return scores

    def check_unchanged(self) -> None:
        """Make sure that the reference is still what the cache was opened for.

        Raises:
            CacheError: its weights, or its precision, are others by now.
        """
        if reference_fingerprint(self.reference, self.device) != self.fingerprint:
            raise CacheError(
                "a reference must not be trained before it has scored the pairs, but its weights have changed since "
                f"its cache {self.folder} was opened; score all pairs before training."
            )

    def check_never_learns(self) -> None:
        """Make sure that the reference will be the same at every step, so that it may score rows as they come.

        Raises:
            CacheError: training changes weights that it is scored with.
        """
        if learns(self.reference):
            raise CacheError(
                "a reference that scores rows as they come must not be trained, but it shares weights that are; score "
                "them before training (`precompute_ref_log_probs=True`)."
            )

    def check_complete(self, missing: Sequence[int], prompt: Callable[[int], str]) -> None:
        """Make sure that missing rows may be scored.

        Args:
            missing: their numbers.
            prompt: the prompt of a row.

        Raises:
            CacheError: the cache is for reading only; the sentence names the first of the rows.
        """
        if not missing or not self.cache.read_only:
            return
        words = " ".join(prompt(missing[0]).split())
        shown = words if len(words) <= 60 else words[:59] + "…"
        note = f" ({self.cache.skipped[0]})" if self.cache.skipped else ""
        raise CacheError(
            f"the reference cache {self.folder} must hold every row, but {len(missing):,} are missing, the first of "
            f"them row {missing[0]} ({shown!r}), and it cannot be written{note}; make it writable, or name another "
            "folder as `reference.cache`."
        )

    def columns_of(self, keys: Sequence[RowKeys]) -> dict[str, list[float]]:
        """The columns of rows that are all in the cache."""
        return {name: [self.cache[row[number]] for row in keys] for number, name in enumerate(self.keys.columns)}


class CachedCollator:
    """Makes batches that hold the reference's columns where the cache has them, and the rows' keys where it has not.

    Looking up happens here, beside the data, so that a step whose rows are known does not wait for the device.

    Args:
        collate: makes the batch itself.
        cached: where the numbers are.
    """

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Mapping[str, Any]], cached: CachedReference) -> None:
        self.collate = collate
        self.keys = cached.keys
        self.cache = cached.cache

    @property
    def pass_tokens(self) -> PassTokens:
        """The tokens of a pass, as the inner collator counts them."""
        return cast("Any", self.collate).pass_tokens

    def __call__(self, records: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch of these records."""
        keys = self.keys.of_records(records)
        if self.cache.missing(keys):
            self.cache.refresh()  # another process, or the one that trains, may have filled it in
        if not self.cache.missing(keys):
            numbers = [dict(zip(self.keys.columns, (self.cache[key] for key in row), strict=True)) for row in keys]
            return dict(self.collate([record | known for record, known in zip(records, numbers, strict=True)]))
        flat = bytearray(b"".join(key for row in keys for key in row))
        held = torch.frombuffer(flat, dtype=torch.uint8).view(len(keys), len(self.keys.columns), KEY_BYTES)
        return {**self.collate(records), KEYS: held}


def keys_in(batch: Mapping[str, Any]) -> list[RowKeys] | None:
    """The keys that a batch holds, or None."""
    held: Tensor | None = batch.get(KEYS)
    if held is None:
        return None
    return [tuple(bytes(key) for key in row) for row in held.cpu().tolist()]
