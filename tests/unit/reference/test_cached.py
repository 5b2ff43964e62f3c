"""A reference with a memory: batch by batch, for reading only, and never of something that has been trained."""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset

from betahead.data.collate import PairCollator
from betahead.errors import CacheError
from betahead.reference.cached import KEYS, CachedCollator, CachedReference, keys_in
from betahead.reference.columns import ScoringReport, with_reference_columns
from betahead.reference.frozen import FrozenReference
from betahead.types import PairBatch

CPU = torch.device("cpu")
COLLATE = PairCollator(pad_token_id=0)


class Counting(FrozenReference):
    """Counts the pairs that were really scored."""

    pairs = 0

    def scores(self, batch: PairBatch) -> Any:
        self.pairs += batch.pairs
        return super().scores(batch)


def cached(folder: Path, *, wants_log_ppl: bool = True, read_only: bool = False, seed: int = 0) -> CachedReference:
    reference = Counting(tiny.qwen2(seed), wants_log_ppl=wants_log_ppl)
    made = CachedReference(reference, folder, device=CPU, read_only=read_only)
    made.cache.every = 0
    return made


def batch_of(rows: list[dict[str, Any]]) -> PairBatch:
    return PairBatch.from_dict(COLLATE(rows))


@pytest.mark.parametrize("wants_log_ppl", [False, True])
def test_a_batch_that_is_known_is_not_scored_again_and_has_the_same_numbers(
    wants_log_ppl: bool, tmp_path: Path
) -> None:
    rows = tiny.records(5)
    first = cached(tmp_path, wants_log_ppl=wants_log_ppl)
    scored = first.scores(batch_of(rows), rows)
    live = FrozenReference(tiny.qwen2(), wants_log_ppl=wants_log_ppl).scores(batch_of(rows))
    for reference in (first, cached(tmp_path, wants_log_ppl=wants_log_ppl)):
        found = reference.scores(batch_of(rows), rows)
        assert found.columns().keys() == live.columns().keys()
        for name, column in live.columns().items():
            assert torch.equal(found.columns()[name], column)
            assert torch.equal(scored.columns()[name], column)
            assert found.columns()[name].dtype == torch.float32
    assert first.reference.pairs == 5
    mixed = [rows[3], *tiny.records(1, seed=9), rows[0]]
    first.scores(batch_of(mixed), mixed)
    assert first.reference.pairs == 8, "a batch with one unknown row goes through whole"


def test_scores_without_the_log_ppl_that_is_wanted_now_are_completed_and_kept(tmp_path: Path) -> None:
    rows = tiny.records(4)
    before = cached(tmp_path, wants_log_ppl=False).scores(batch_of(rows), rows)
    with_ppl = cached(tmp_path)
    assert with_ppl.cache.missing(with_ppl.keys.of_records(rows)) == [0, 1, 2, 3]
    with_ppl.scores(batch_of(rows), rows)
    assert with_ppl.reference.pairs == 4
    without = cached(tmp_path, wants_log_ppl=False)
    found = without.scores(batch_of(rows), rows)
    assert without.reference.pairs == 0
    assert torch.equal(found.chosen_logps, before.chosen_logps)


def test_a_cache_grows_and_serves_any_part_of_the_data_in_any_order(tmp_path: Path) -> None:
    rows = Dataset.from_list(tiny.records(20))
    wanted = with_reference_columns(
        rows, FrozenReference(tiny.qwen2(), wants_log_ppl=True), COLLATE, batch_size=1, device=CPU
    )
    names = ("ref_chosen_logps", "ref_rejected_logps", "ref_log_ppl")

    def columns(part: Dataset, size: int) -> tuple[Dataset, ScoringReport]:
        reports: list[ScoringReport] = []
        scored = with_reference_columns(
            part, cached(tmp_path), COLLATE, batch_size=size, device=CPU, report=reports.append
        )
        return scored, reports[0]

    half, report = columns(rows.select(range(10)), 1)
    assert (report.rows, report.found) == (10, 0)
    whole, report = columns(rows, 1)
    assert (report.rows, report.found) == (20, 10)
    assert report.line() == f"10 of 20 rows found, 10 scored, in {tmp_path}"
    for name in names:
        assert list(half[name]) == list(wanted[name])[:10]
        assert list(whole[name]) == list(wanted[name])
    for part in (rows.shuffle(seed=3), rows.shard(3, 1), rows.select([7, 7, 2])):
        scored, report = columns(part, 7)
        assert report.found == report.rows == len(part)
        by_id = dict(zip(wanted["prompt_id"], zip(*(wanted[name] for name in names), strict=True), strict=True))
        assert list(zip(*(scored[name] for name in names), strict=True)) == [by_id[one] for one in scored["prompt_id"]]


def test_a_row_that_is_missing_in_a_cache_for_reading_only_is_named(tmp_path: Path) -> None:
    rows = [record | {"prompt": f"What is\n{number} " + "rain " * 20} for number, record in enumerate(tiny.records(6))]
    cached(tmp_path).scores(batch_of(rows[:2]), rows[:2])
    reading = cached(tmp_path, read_only=True)
    found = reading.scores(batch_of(rows[:2]), rows[:2])
    assert reading.reference.pairs == 0
    assert found.chosen_logps.shape == (2,)
    shown = ("What is 2 " + "rain " * 20)[:59] + "…"
    wanted = (
        f"the reference cache {tmp_path} must hold every row, but 4 are missing, the first of them row 2 ({shown!r}), "
        "and it cannot be written; make it writable, or name another folder as `reference.cache`."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        with_reference_columns(Dataset.from_list(rows), reading, COLLATE, batch_size=2, device=CPU)
    with pytest.raises(CacheError, match="must hold every row, but 1 are missing, the first of them row 1"):
        reading.scores(batch_of(rows[1:3]), rows[1:3])
    assert reading.reference.pairs == 0


def test_a_damaged_file_of_a_cache_for_reading_only_is_named_with_what_it_costs(tmp_path: Path) -> None:
    rows = tiny.records(2)
    cached(tmp_path).scores(batch_of(rows), rows)
    (shard,) = tmp_path.rglob("*.parquet")
    shard.write_bytes(b"")
    with pytest.raises(CacheError, match=re.escape(f"cannot be written ({shard} must be a whole shard")):
        cached(tmp_path, read_only=True).scores(batch_of(rows), rows)


@contextmanager
def somebody_else() -> Generator[None]:
    """Root may write everywhere, so for a moment the process is not root."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


def test_a_folder_that_cannot_be_written_serves_what_it_holds_and_is_a_sentence_otherwise() -> None:
    rows = tiny.records(3)
    with TemporaryDirectory() as name:
        folder = Path(name)  # pytest's own folders cannot be entered by others
        cached(folder).scores(batch_of(rows[:2]), rows[:2])
        (inside,) = folder.iterdir()
        for path, mode in ((folder, 0o755), (inside, 0o555)):
            path.chmod(mode)
        with somebody_else():
            reference = cached(folder)
            reference.scores(batch_of(rows[:2]), rows[:2])
            assert reference.reference.pairs == 0
            wanted = (
                f"the reference cache must be a folder that can be written, but {inside} is not (Permission denied); "
                "correct its permissions or make room, or name another folder as `reference.cache`."
            )
            with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
                reference.scores(batch_of(rows), rows)
        inside.chmod(0o755)


def test_a_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        wanted = (
            f"`reference.cache` must be `auto`, `live` or a folder, but {tmp_path / 'file'} is a file instead; name "
            "another."
        )
        with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
            cached(folder)


def test_a_reference_that_was_trained_since_is_refused(tmp_path: Path) -> None:
    reference = cached(tmp_path)
    reference.check_unchanged()
    with torch.no_grad():
        next(iter(reference.reference.model.parameters())).view(-1)[0] += 1
    wanted = (
        "a reference must not be trained before it has scored the pairs, but its weights have changed since its cache "
        f"{tmp_path} was opened; score all pairs before training."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        reference.check_unchanged()


def test_a_reference_that_learns_may_not_score_rows_as_they_come(tmp_path: Path) -> None:
    reference = cached(tmp_path)
    wanted = (
        "a reference that scores rows as they come must not be trained, but it shares weights that are; score them "
        "before training (`precompute_ref_log_probs=True`)."
    )
    with pytest.raises(CacheError, match=f"^{re.escape(wanted)}$"):
        reference.check_never_learns()
    reference.reference.model.requires_grad_(False)
    reference.check_never_learns()


def test_a_reference_with_broken_weights_leaves_nothing_behind(tmp_path: Path) -> None:
    reference = FrozenReference(tiny.qwen2())
    with torch.no_grad():
        next(iter(reference.model.parameters())).fill_(float("nan"))
    with pytest.raises(CacheError, match=r"^a score of the reference must be finite to be kept, but is nan instead"):
        with_reference_columns(
            Dataset.from_list(tiny.records(3)),
            CachedReference(reference, tmp_path, device=CPU),
            COLLATE,
            batch_size=2,
            device=CPU,
        )
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_batch_has_the_columns_once_its_rows_are_known_and_their_keys_before(tmp_path: Path) -> None:
    rows = tiny.records(4)
    training, working = cached(tmp_path), cached(tmp_path)
    collate = CachedCollator(COLLATE, working)
    batch = collate(rows)
    assert batch[KEYS].shape == (4, 3, 16)
    assert keys_in(batch) == training.keys.of_records(rows)
    scores = training.scored(PairBatch.from_dict(batch), keys_in(batch) or [])
    known = collate(rows)
    assert KEYS not in known
    assert keys_in(known) is None
    for name, column in scores.columns().items():
        assert torch.equal(known[name], column)
    for name in COLLATE(rows):
        assert torch.equal(known[name], batch[name])
