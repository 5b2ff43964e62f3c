"""The reference's scores of a whole data set, computed once and kept as columns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from betahead.data.lengths import tokens_of_rows
from betahead.data.passes import padded_tokens, passes_of, tokens_of
from betahead.reference.cached import CachedReference
from betahead.reference.frozen import FrozenReference
from betahead.types import Pairs, bundled, on_device

Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of the passes that one of several processes makes; together they fill one cache.

    Args:
        rank: which process this is.
        ranks: how many there are.
        wait: returns when all of them have called it.
    """

    rank: int = 0
    ranks: int = 1
    wait: Callable[[], None] = lambda: None


@dataclass(frozen=True, kw_only=True)
class ScoringReport:
    """What giving a data set its columns came to.

    Args:
        rows: of the data set.
        found: rows whose scores were in the cache.
        where: the cache, or None when there is none.
        skipped: a sentence for every file of the cache that was left out.
    """

    rows: int
    found: int
    where: Path | None = None
    skipped: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for a person."""
        if self.where is None:
            return f"{self.rows:,} rows scored"
        return f"{self.found:,} of {self.rows:,} rows found, {self.rows - self.found:,} scored, in {self.where}"


def with_reference_columns(
    dataset: Dataset,
    reference: FrozenReference | CachedReference,
    collate: Collate,
    *,
    batch_size: int,
    device: torch.device,
    budget: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
    share: Share | None = None,
    before_scoring: Callable[[int], None] = lambda _: None,
    report: Callable[[ScoringReport], None] = lambda _: None,
) -> Dataset:
    """The data set with `ref_chosen_logps`, `ref_rejected_logps` and, if the reference was asked for it, `ref_log_ppl`.

    Rows are scored in order of length, so that little is spent on padding; the columns are in the order of the rows.
    With a cache only rows that it lacks are scored, each pass is kept as it ends, and of several processes each makes
    a share of the passes.

    Args:
        dataset: tokenized records.
        reference: the model to score with, or the same with a cache; it must not have been trained on these pairs.
        collate: makes a batch of records.
        batch_size: pairs per pass.
        device: where the model is.
        budget: tokens per pass; a batch with more is cut into several.
        progress: called with the number of pairs of each finished pass.
        share: this process's part of the work on the cache; all of it when None.
        before_scoring: called with the number of rows to score, if there are any; raises if that must not be.
        report: called once at the end.

    Raises:
        CacheError: a cache that lacks rows and cannot be written, or a score that is not finite.
    """
    passes = _Passes(dataset, collate, batch_size, device, budget)
    if isinstance(reference, CachedReference):
        columns = _from_cache(passes, reference, share or Share(), before_scoring, progress, report)
    else:
        before_scoring(len(dataset))
        columns: dict[str, list[float]] = {}
        for rows, batch in passes.over(range(len(dataset))):
            for name, values in reference.scores(batch).columns().items():
                column = columns.setdefault(name, [0.0] * len(dataset))
                for row, value in zip(rows, values.tolist(), strict=True):
                    column[row] = value
            progress(len(rows))
        report(ScoringReport(rows=len(dataset), found=0))
    for name, column in columns.items():
        dataset = dataset.add_column(name, column)
    return dataset


@dataclass(frozen=True)
class _Passes:
    dataset: Dataset
    collate: Collate
    batch_size: int
    device: torch.device
    budget: int | None

    def over(self, rows: Sequence[int], share: Share | None = None) -> Iterator[tuple[list[int], Pairs]]:
        """The batches of these rows, longest first, or one process's share of them."""
        part = share or Share()
        wanted = self.dataset if len(rows) == len(self.dataset) else self.dataset.select(rows)
        # Pairs of like length, passed together, need little padding.
        lengths = [pair.longer_row for pair in tokens_of_rows(wanted)]
        order = [rows[place] for place in sorted(range(len(rows)), key=lengths.__getitem__, reverse=True)]
        for start in range(part.rank * self.batch_size, len(order), part.ranks * self.batch_size):
            chosen = order[start : start + self.batch_size]
            records = [self.dataset[row] for row in chosen]
            tokens = getattr(self.collate, "pass_tokens", padded_tokens)
            for group in passes_of([tokens_of(record) for record in records], self.budget, tokens):
                batch = on_device(self.collate([records[place] for place in group]), self.device)
                yield [chosen[place] for place in group], bundled(batch)


def _from_cache(
    passes: _Passes,
    cached: CachedReference,
    share: Share,
    before_scoring: Callable[[int], None],
    progress: Callable[[int], None],
    report: Callable[[ScoringReport], None],
) -> dict[str, list[float]]:
    """The columns of the data set, once the cache has been completed for its rows."""
    dataset, cache = passes.dataset, cached.cache
    keys = cached.keys.of_dataset(dataset)

    def complete(rows: Sequence[int], part: Share) -> None:
        for taken, batch in passes.over(rows, part):
            cached.scored(batch, [keys[row] for row in taken])
            progress(len(taken))
        cache.save()

    cache.refresh()
    missing = cache.missing(keys)
    if missing:
        before_scoring(len(missing))
        cached.check_complete(missing, lambda row: str(dataset[row].get("prompt", "")))
    share.wait()  # Nobody writes before everybody has seen the same rows missing.
    complete(missing, share)
    share.wait()
    cache.refresh()
    # Nothing is left, unless the processes cannot see each other's files.
    complete(cache.missing(keys), Share())
    cache.merge()
    found = len(keys) - len(missing)
    report(ScoringReport(rows=len(keys), found=found, where=cached.folder, skipped=tuple(dict.fromkeys(cache.skipped))))
    return cached.columns_of(keys)
