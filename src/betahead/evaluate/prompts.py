"""What the BetaHead makes of given prompts, and where that lies among the prompts of its run."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import Need
from betahead.errors import ConfigError, DataError
from betahead.forward.model import PreferenceModel
from betahead.forward.modes import evaluating
from betahead.reference.frozen import FrozenReference
from betahead.types import bundled

Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]
Push = Literal["up", "down", "none"]

# Closer to 1 than this, f is what float32 makes of exactly 1.
_FLAT = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class Snapshot:
    """Distinct prompts at the end of a run, held out or trained on: a distribution that a prompt is placed in.

    Args:
        progress: share of the training that was done.
        beta: β(x), one per prompt.
        log_ppl: of those prompts that have one.
    """

    progress: float
    beta: Float[np.ndarray, " prompts"]
    log_ppl: Float[np.ndarray, " known"]


@dataclass(frozen=True, kw_only=True)
class PromptView:
    """A prompt as the BetaHead sees it.

    Args:
        prompt: its words.
        where: file and line, or the option that gave it.
        tokens: length as the model reads it, template included.
        log_ppl: as the rule reads it, nats per token; None for a prompt without a counted token.
        log_ppl_quantile: share of the held-out prompts with a smaller log PPL, ties by half.
        log_ppl_training_quantile: the same among a sample of the training prompts; None where the run kept none.
        f: the correction of the head, f(x) or in the direct form β(x)/β₀ before the bounds; None for a fixed β.
        beta: β(x).
        beta_quantile: share of the held-out prompts with a smaller β, ties by half; None for a fixed β.
        beta_training_quantile: the same among a sample of the training prompts.
        pushed: which way the head moved β from what the rule alone gives; None for a fixed β.
        at_bound: whether the bounds hold β back.
    """

    prompt: str
    where: str
    tokens: int
    log_ppl: float | None
    log_ppl_quantile: float | None
    log_ppl_training_quantile: float | None
    f: float | None
    beta: float
    beta_quantile: float | None
    beta_training_quantile: float | None
    pushed: Push | None
    at_bound: bool

    def to_dict(self) -> dict[str, Any]:
        """The view as plain values, for JSON."""
        return asdict(self)


def last_snapshot(path: Path) -> Snapshot:
    """The last snapshot of a `prompts.parquet`, one row per distinct prompt.

    Raises:
        DataError: when the file is missing, broken, empty, or has other columns.
    """
    if not path.is_file():
        raise DataError(f"the run must hold {path.name}, but {path} does not exist; train it again.")
    try:
        table = pq.read_table(path, columns=["progress", "prompt_id", "beta", "log_ppl"])
        columns = {name: np.asarray(table[name].to_pylist()) for name in table.column_names}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        detail = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{path} must be a run's Parquet file, but cannot be read ({detail}); restore it.") from None
    if not len(table):
        raise DataError(f"{path} must hold the held-out prompts of a run, but is empty instead; restore it.")
    progress = float(columns["progress"].max())
    last = np.flatnonzero(columns["progress"] == progress)
    rows = last[np.unique(columns["prompt_id"][last].astype(str), return_index=True)[1]]
    log_ppl = columns["log_ppl"][rows].astype(np.float64)
    return Snapshot(
        progress=progress, beta=columns["beta"][rows].astype(np.float64), log_ppl=log_ppl[np.isfinite(log_ppl)]
    )


def training_sample(path: Path) -> Snapshot | None:
    """The sample of training prompts that a run kept, or None when it kept none: it was not finished, or is older.

    Raises:
        DataError: when the file is broken.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        beta, log_ppl = (np.asarray(found[name], dtype=np.float64) for name in ("beta", "log_ppl"))
        if beta.ndim != 1 or beta.shape != log_ppl.shape:
            raise ValueError("beta and log_ppl are not lists of one length")
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path} must hold the run's training prompts, but is broken ({repr(error)[:200]}); restore or remove it."
        ) from None
    return Snapshot(progress=1.0, beta=beta, log_ppl=log_ppl)


def quantile_of(value: float, among: Float[np.ndarray, " values"]) -> float | None:
    """The share of values below this one, equal ones by half; None when there are none."""
    if not len(among):
        return None
    return float((among < value).mean() + (among == value).mean() / 2)


@torch.no_grad()
def views_of(
    model: PreferenceModel,
    reference: FrozenReference,
    records: Sequence[Mapping[str, Any]],
    collate: Collate,
    snapshot: Snapshot,
    training: Snapshot | None = None,
    *,
    device: torch.device,
    batch_size: int = 8,
) -> list[PromptView]:
    """β and its causes for every prompt, in the order of the records.

    Args:
        model: policy and rule.
        reference: read only for the log PPL of rules that read the reference's.
        records: from `prompt_records`.
        collate: makes a batch of records.
        snapshot: the held-out prompts, to place the prompts among.
        training: a sample of the training prompts, to place them among too.
        device: where both models are.
        batch_size: prompts per pass.
    """
    seen = seen_in(model, reference, records, collate, device=device, batch_size=batch_size)
    return [_view(record, found, snapshot, training) for record, found in zip(records, seen, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the head made of a prompt: `PromptView` without the place among others."""

    log_ppl: float | None
    f: float | None
    beta: float
    at_bound: bool


@torch.no_grad()
def seen_in(
    model: PreferenceModel,
    reference: FrozenReference,
    records: Sequence[Mapping[str, Any]],
    collate: Collate,
    *,
    device: torch.device,
    batch_size: int,
) -> list[Seen]:
    """β and its causes of every prompt, without their place among others; arguments as in `views_of`."""
    found: list[Seen] = []
    with evaluating(model):
        for start in range(0, len(records), batch_size):
            part = [dict(record) for record in records[start : start + batch_size]]
            batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in collate(part).items()}
            found.extend(model.within(partial(_seen, model, reference, batch)))
    return found


def _seen(model: PreferenceModel, reference: FrozenReference, batch: dict[str, Any]) -> list[Seen]:
    rule = model.rule
    if rule.reads in ("pair", "batch"):
        raise ConfigError(
            f"a β of prompts must come from a rule that reads the prompt, but `beta.kind: {rule.kind}` reads the "
            f"{rule.reads}; `betahead eval` shows its β of held-out pairs."
        )
    if rule.ppl_from == "reference" and "ref_log_ppl" not in batch:
        batch = batch | reference.scores(bundled(batch)).columns()
    _, features = model.scored(bundled(batch), frozenset({Need.LOG_PPL}))
    assert features.log_ppl is not None and features.has_ppl is not None
    known = features.has_ppl.tolist()
    log_ppl = [value if has else None for value, has in zip(features.log_ppl.tolist(), known, strict=True)]
    if not isinstance(rule, LearnedBeta):
        betas = rule(features, torch.zeros_like(features.log_ppl)).beta.tolist()
        return [Seen(log_ppl=p, f=None, beta=b, at_bound=False) for p, b in zip(log_ppl, betas, strict=True)]
    out = rule.explain(features)
    columns = (out.correction.tolist(), out.beta.tolist(), out.at_bound.tolist())
    return [Seen(log_ppl=p, f=f, beta=b, at_bound=a) for p, f, b, a in zip(log_ppl, *columns, strict=True)]


def _view(record: Mapping[str, Any], seen: Seen, snapshot: Snapshot, training: Snapshot | None) -> PromptView:
    def place(value: float | None, among: Float[np.ndarray, " values"] | None) -> float | None:
        return None if value is None or among is None else quantile_of(value, among)

    pushed: Push | None = None
    if seen.f is not None:
        pushed = "none" if abs(seen.f - 1.0) <= _FLAT else "up" if seen.f > 1.0 else "down"
    return PromptView(
        prompt=record["prompt"],
        where=record["where"],
        tokens=len(record["prompt_ids"]),
        log_ppl=seen.log_ppl,
        log_ppl_quantile=place(seen.log_ppl, snapshot.log_ppl),
        log_ppl_training_quantile=place(seen.log_ppl, training and training.log_ppl),
        f=seen.f,
        beta=seen.beta,
        beta_quantile=None if seen.f is None else quantile_of(seen.beta, snapshot.beta),
        beta_training_quantile=None if seen.f is None else place(seen.beta, training and training.beta),
        pushed=pushed,
        at_bound=seen.at_bound,
    )
