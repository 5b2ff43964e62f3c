"""The reference's scores in training: every pair before the first step, or each batch as it comes; cached or not."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset
from peft import PeftModel

from betahead.beta.rule import Need
from betahead.data.paths import expanded
from betahead.errors import ConfigError
from betahead.forward.model import PreferenceModel
from betahead.reference.cached import CachedCollator, CachedReference, keys_in
from betahead.reference.columns import Collate, ScoringReport, Share, with_reference_columns
from betahead.reference.fingerprint import learns
from betahead.reference.frozen import FrozenReference
from betahead.reference.place import cache_beside, user_cache
from betahead.train.arguments import DPOConfig
from betahead.train.origin import trained_steps
from betahead.train.scored import check_columns, is_scored
from betahead.types import bundled


@dataclass(frozen=True, kw_only=True)
class ScoringProgress:
    """How far scoring a data set has come.

    Args:
        pairs: scored so far; those of other processes are taken to be as many.
        of: to be scored.
        seconds: since it began.
        report: what it came to, once it has ended.
    """

    pairs: int
    of: int
    seconds: float
    report: ScoringReport | None = None


OnScoring = Callable[[ScoringProgress], None]


def cache_place(given: str | None, data: Any) -> Path | None:
    """The folder of the reference cache, or None for scores that stay in memory.

    Args:
        given: `DPOConfig.reference_cache`: a path, `auto`, or None.
        data: what the trainer is to train on. With None its columns are kept beside it when it is a local file or
            folder, and in memory otherwise; with `auto` in the user's cache then.
    """
    if given is not None and given != "auto":
        return Path(expanded(given))
    beside = cache_beside(Path(expanded(os.fspath(data)))) if isinstance(data, str | os.PathLike) else None
    return user_cache() if beside is None and (given == "auto" or isinstance(data, str | os.PathLike)) else beside


class ReferenceScoring:
    """Gives data sets and batches the reference's columns.

    It is made before training; what the reference is then is what the cache holds.

    Args:
        reference: what the policy is held to.
        preference: policy, rule and losses; where neither of these reads a reference, nothing is scored.
        collate: makes batches.
        args: settings.
        accelerator: knows the precision and the other processes.
        data: the training data as they were given, see `cache_place`.
        on_scoring: told how far scoring is; by default a line is printed at its end when a cache is used.

    Attributes:
        brought: a data set brought scores along, so that what the reference is need not be what they are of.

    Raises:
        CacheError: see `CachedReference`.
        ConfigError: a reference that is to score every batch shares weights that are trained.
    """

    def __init__(
        self,
        reference: FrozenReference,
        preference: PreferenceModel,
        collate: Collate,
        args: DPOConfig,
        accelerator: Accelerator,
        data: Any,
        on_scoring: OnScoring | None = None,
    ) -> None:
        self.reference = reference
        self.rule = preference.rule
        self.preference = preference
        self.wanted = preference.needs_reference
        self.brought = False
        self._steps = trained_steps(preference.policy)
        self.collate = collate
        self.args = args
        self.accelerator = accelerator
        self.on_scoring = on_scoring or (_silent if args.disable_tqdm else _printed)
        folder = cache_place(args.reference_cache, data) if self.wanted else None
        if not args.precompute_ref_log_probs and args.reference_cache is None:
            folder = None
        self.cached: CachedReference | None = None
        if folder is not None:
            with accelerator.autocast():
                self.cached = CachedReference(reference, folder, device=args.device)
            if not args.precompute_ref_log_probs:
                self.cached.check_never_learns()
        elif self.wanted and not args.precompute_ref_log_probs and learns(reference):
            raise ConfigError(
                "`precompute_ref_log_probs` must be True for an adapter that trains weights of the model itself, such "
                'as `bias="all"`, because turning it off would not give back the reference; set it, or use '
                '`bias="none"`.'
            )

    @property
    def as_they_come(self) -> bool:
        """Whether rows are looked up, and the cache filled, batch by batch."""
        return self.cached is not None and not self.args.precompute_ref_log_probs

    @property
    def collator(self) -> CachedCollator:
        """Makes batches that hold what the cache has; only when rows are scored as they come."""
        assert self.cached is not None
        return CachedCollator(self.collate, self.cached)

    def columns(self, dataset: Dataset | None, *, trained: bool | None = None) -> Dataset | None:
        """The data set with the reference's columns, unless they are there or each batch is scored as it comes.

        Args:
            dataset: tokenized records, or None.
            trained: a step has been made since the reference was given; None while the trainer is being made, before
                anything can have happened to it.

        Raises:
            ConfigError: there are rows to score, and what is to score them has been trained.
            CacheError: a cache that cannot be used.
        """
        args, began, pairs, of = self.args, time.perf_counter(), 0, 0
        if dataset is not None:
            check_columns(dataset, self.rule)
        if dataset is None or not self.wanted:
            return dataset
        if is_scored(dataset, self.reference.columns):
            self.brought = True
            return dataset
        if not args.precompute_ref_log_probs:
            return dataset

        def told(report: ScoringReport | None = None) -> None:
            if self.accelerator.is_main_process:
                seconds = time.perf_counter() - began
                self.on_scoring(ScoringProgress(pairs=pairs, of=of, seconds=seconds, report=report))

        def count(more: int) -> None:
            nonlocal pairs
            pairs = min(of, pairs + more * self.accelerator.num_processes)
            told()

        def begin(rows: int) -> None:
            nonlocal of
            of = rows
            if trained is not None:
                self._check_untrained(trained)

        with self.accelerator.autocast():
            return with_reference_columns(
                dataset,
                self.cached or self.reference,
                self.collate,
                batch_size=args.precompute_ref_batch_size or args.per_device_eval_batch_size,
                device=args.device,
                budget=args.max_batch_tokens,
                progress=count,
                share=Share(
                    rank=self.accelerator.process_index,
                    ranks=self.accelerator.num_processes,
                    wait=self.accelerator.wait_for_everyone,
                ),
                before_scoring=begin,
                report=told,
            )

    def completed(self, inputs: dict[str, Any], *, trained: bool) -> dict[str, Any]:
        """The batch with the reference's columns, which are scored now if it has none.

        Raises:
            ConfigError: it has none, and what is to score it has been trained: the policy would be held to itself.
        """
        there = "ref_chosen_logps" in inputs and (Need.STATES not in self.reference.needs or "ref_states" in inputs)
        if there or not self.wanted:
            return inputs
        if (trained or self._stepped) and learns(self.reference):
            raise ConfigError(
                "the batches of `data_collator` must hold the reference's columns, because the reference that would "
                f"score them has been trained since; pass them on, or {self._remedy}."
            )
        keys = keys_in(inputs)
        with self.accelerator.autocast():
            pairs = bundled(inputs)
            # The reference may be the policy with its adapters off.
            if keys is None or self.cached is None:
                scores = self.preference.within(partial(self.reference.scores, pairs))
            else:
                scores = self.preference.within(partial(self.cached.scored, pairs, keys))
        return {**inputs, **scores.columns()}

    def finish(self) -> None:
        """Put on the disk what rows that were scored as they came have left to write."""
        if self.cached is not None:
            self.cached.cache.merge()

    @property
    def _remedy(self) -> str:
        """What would leave the reference as it was while the policy is trained."""
        if self.reference.adapters_off:
            return 'use an adapter with bias="none"'
        if isinstance(self.reference.model, PeftModel):
            return "give another model as `ref_model`"
        return "set precompute_ref_log_probs to False"

    @property
    def _stepped(self) -> bool:
        """Whether the policy has been trained since the reference was given, also by a run that has ended."""
        return trained_steps(self.preference.policy) > self._steps

    def _check_untrained(self, trained: bool) -> None:
        if (trained or self._stepped) and learns(self.reference):
            raise ConfigError(
                "`eval_dataset` must be given to DPOTrainer before training, because the reference that it is to be "
                f"scored with has been trained since; or {self._remedy}."
            )
        if self.cached is not None:
            self.cached.check_unchanged()


def _printed(progress: ScoringProgress) -> None:
    if progress.report is not None and progress.report.where is not None:
        print(f"reference  {progress.report.line()}", *progress.report.skipped, sep="\nskipped    ")


def _silent(progress: ScoringProgress) -> None:
    """Say nothing."""
