"""What β makes of the held-out prompts as training goes on: the rows of `prompts.parquet`."""

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import Need
from betahead.data.passes import PassCollator
from betahead.durable import write_whole
from betahead.errors import DataError
from betahead.forward.model import PreferenceModel
from betahead.forward.modes import evaluating
from betahead.reference.frozen import FrozenReference
from betahead.train.ranks import first_rank
from betahead.types import ReferenceScores, bundled, on_device

MARKS = (0.0, 0.25, 0.5, 0.75, 1.0)
SCHEMA = pa.schema(
    [
        ("progress", pa.float32()),
        ("step", pa.int64()),
        ("prompt_id", pa.string()),
        ("prompt", pa.string()),
        ("domain", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("log_ppl", pa.float32()),
        ("f", pa.float32()),
        ("beta", pa.float32()),
        ("margin", pa.float32()),
        ("pc1", pa.float32()),
        ("pc2", pa.float32()),
    ]
)


class PromptSnapshots(TrainerCallback):
    """Writes log PPL, f, β, margin and the hidden state's place of held-out prompts at fixed shares of training.

    `f` is the head's correction and null for rules without one. The two principal components are those of the first
    snapshot, so that a prompt's path through the plane can be followed.

    Args:
        model: policy and rule.
        records: tokenized held-out pairs.
        reference: scores the pairs whose columns are missing.
        collate: cuts records into passes.
        path: the Parquet file, rewritten whole at each mark.
        batch_size: pairs at a time.
        precision: the context of mixed precision that training runs in, so that β is the same β.
    """

    def __init__(
        self,
        model: PreferenceModel,
        records: Dataset,
        reference: FrozenReference,
        collate: PassCollator,
        path: Path,
        *,
        batch_size: int,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.precision = precision
        self.model = model
        self.records = records
        self.reference = reference
        self.collate = collate
        self.path = path
        self.batch_size = batch_size
        self.tables: list[pa.Table] = []
        self._basis: tuple[Tensor, Tensor] | None = None
        self._taken = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The snapshot before the first step."""
        self._take_due(args, state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The snapshots at 25, 50, 75 and 100 % of the steps."""
        self._take_due(args, state)

    def _take_due(self, args: TrainingArguments, state: TrainerState) -> None:
        due = [m for m in MARKS[self._taken :] if state.global_step >= math.ceil(m * state.max_steps)]
        if due:
            self._taken += len(due)
            # Every rank looks, because weights that are spread over ranks can only be read together; the first writes.
            table = self.model.within(partial(self._table, due[-1], state.global_step, args.device))
            self.tables.append(table)
            self._write()

    def _write(self) -> None:
        if not first_rank():
            return
        content = io.BytesIO()
        pq.write_table(pa.concat_tables(self.tables), content)
        write_whole(self.path, content.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """How far it is, and the plane of the first snapshot, for a checkpoint; the rows are in the file."""
        return {"taken": self._taken, "rows": sum(table.num_rows for table in self.tables), "basis": self._basis}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave: later rows leave the file.

        Raises:
            DataError: the file lacks rows that it had, or is broken.
        """
        self._taken, self._basis, rows = state["taken"], state["basis"], state["rows"]
        self.tables = [self._kept().slice(0, rows)] if rows and self.path.is_file() else []
        there = sum(table.num_rows for table in self.tables)
        if there != rows:
            raise DataError(
                f"`{self.path}` must hold the {rows:,} rows of the snapshots before the checkpoint, but holds "
                f"{there:,} instead; restore the file, or begin a new run."
            )
        if rows:
            self._write()

    def _kept(self) -> pa.Table:
        try:
            return pq.read_table(self.path, schema=SCHEMA)
        except (OSError, pa.ArrowException) as error:
            detail = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise DataError(
                f"`{self.path}` must hold the snapshots before the checkpoint, but cannot be read ({detail}); restore "
                "the file, or begin a new run."
            ) from None

    @torch.no_grad()
    def _table(self, progress: float, step: int, device: torch.device) -> pa.Table:
        columns: dict[str, list[Any]] = {name: [] for name in ("log_ppl", "f", "beta", "margin")}
        hidden: list[Tensor] = []
        order: list[int] = []
        with evaluating(self.model), self.precision():
            for start in range(0, len(self.records), self.batch_size):
                rows = [self.records[i] for i in range(start, min(start + self.batch_size, len(self.records)))]
                for group in self.collate.groups(rows):
                    batch = dict(self.collate.collate([rows[i] for i in group]))
                    found, states = self._scores(on_device(batch, device))
                    hidden.append(states)
                    order += [start + i for i in group]
                    for name, values in found.items():
                        columns[name].extend(values)
        back = sorted(range(len(order)), key=order.__getitem__)
        columns = {name: [values[i] for i in back] for name, values in columns.items()}
        places = self._places(torch.cat(hidden)[back]).tolist()
        count = len(self.records)
        described = {name: list(self.records[name]) for name in ("prompt_id", "prompt", "domain")}
        for name in ("chosen", "rejected"):  # texts of the answers, which pairs given as token ids alone lack
            described[name] = list(self.records[name]) if name in self.records.column_names else [None] * count
        return pa.table(
            {
                "progress": [progress] * count,
                "step": [step] * count,
                **described,
                **columns,
                "pc1": [place[0] for place in places],
                "pc2": [place[1] for place in places],
            },
            schema=SCHEMA,
        )

    def _scores(self, batch: dict[str, Any]) -> tuple[dict[str, Sequence[float | None]], Tensor]:
        pairs = bundled(batch)
        reference: ReferenceScores | None = pairs.reference
        if reference is None and self.model.needs_reference:
            reference = self.reference.scores(pairs)
            pairs = bundled(batch | reference.columns())
        logps, features = self.model.scored(pairs, frozenset({Need.LOG_PPL, Need.LAST_HIDDEN}))
        margin, shaping = self.model.shaped(logps, features, reference)
        rule = self.model.rule
        correction = (
            rule.explain(features).correction.tolist() if isinstance(rule, LearnedBeta) else [None] * len(margin)
        )
        assert features.log_ppl is not None
        assert features.has_ppl is not None
        assert features.last_hidden is not None
        known = features.has_ppl.tolist()
        log_ppl = [value if has else None for value, has in zip(features.log_ppl.tolist(), known, strict=True)]
        found: dict[str, Sequence[float | None]] = {
            "log_ppl": log_ppl,
            "f": correction,
            "beta": shaping.beta.tolist(),
            "margin": margin.tolist(),
        }
        return found, features.last_hidden.float().cpu()

    def _places(self, hidden: Tensor) -> Tensor:
        """The first two principal coordinates, [prompts, 2]; 0 for directions that do not exist."""
        if self._basis is None:
            mean = hidden.mean(dim=0)
            directions = torch.linalg.svd(hidden - mean, full_matrices=False).Vh[:2]
            padded = torch.zeros(2, hidden.shape[1])
            padded[: directions.shape[0]] = directions
            self._basis = (mean, padded)
        mean, directions = self._basis
        return (hidden - mean) @ directions.T
