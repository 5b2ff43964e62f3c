"""Prompts of one's own under the rule of an opened run: what `betahead inspect` prints and the explorer shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from betahead.data.rows import Row
from betahead.evaluate.prompt_records import prompt_records
from betahead.evaluate.prompts import PromptView, Snapshot, last_snapshot, training_sample, views_of
from betahead.runs.opened import OpenedRun


@dataclass(frozen=True, eq=False)
class Inspector:
    """An opened run and the prompts that others are placed among.

    Args:
        opened: the run.
    """

    opened: OpenedRun

    @cached_property
    def held_out(self) -> Snapshot:
        """The held-out prompts at the end of the run.

        Raises:
            DataError: see `last_snapshot`.
        """
        return last_snapshot(self.opened.folder.prompts)

    @cached_property
    def training(self) -> Snapshot | None:
        """The sample of training prompts that the run kept, or None.

        Raises:
            DataError: see `training_sample`.
        """
        return training_sample(self.opened.folder.training_prompts)

    def records(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The prompts as token ids, rendered as those of the run's training were.

        Raises:
            DataError: see `prompt_records`.
        """
        opened = self.opened
        return prompt_records(
            rows,
            opened.tokenizer,
            max_length=opened.config.data.max_length,
            layout=opened.layout,
            prompt_template=opened.config.data.prompt_template,
            ppl_tokens=opened.rule.ppl_tokens,
        )

    def views(self, records: Sequence[Mapping[str, Any]]) -> list[PromptView]:
        """β and its causes of every prompt, in the order of the records.

        Raises:
            ConfigError: for a rule that has no β of a prompt.
        """
        opened = self.opened
        return views_of(
            opened.model,
            opened.reference,
            records,
            opened.collate,
            self.held_out,
            self.training,
            device=opened.device,
            batch_size=opened.config.evaluate.batch_size,
        )
