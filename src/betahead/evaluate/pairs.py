"""Held-out pairs under policy and reference: what each pair scores, and what that comes to with intervals."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Float, Int
from torch import Tensor

from betahead.beta.rule import Need
from betahead.data.lengths import tokens_of_rows
from betahead.errors import DataError
from betahead.evaluate.calibrated import Rescaled, calibration_of
from betahead.forward.model import PreferenceModel
from betahead.forward.modes import evaluating
from betahead.reference.frozen import FrozenReference
from betahead.stats.bootstrap import LEVEL, REPLICATES, Interval, mean_interval
from betahead.types import bundled, on_device

Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class PairScores:
    """One entry per pair, in the order of the records.

    Args:
        margin: h, the policy's log-ratio to the reference of the chosen answer minus that of the rejected one.
        beta: β(x) of the rule.
        log_ppl: of the prompt, as the rule reads it; NaN for a prompt without a counted token.
        chosen_logps: log π_θ(y_w|x), summed over the answer's tokens; the three others likewise.
        chosen_tokens: length of the chosen answer, its end token included.
        domain: "" where the data has none.
        unit: of the margin: `nats`, `nats per token` (IPO), or that of another divergence.
    """

    margin: Float[np.ndarray, " pairs"]
    beta: Float[np.ndarray, " pairs"]
    log_ppl: Float[np.ndarray, " pairs"]
    chosen_logps: Float[np.ndarray, " pairs"]
    rejected_logps: Float[np.ndarray, " pairs"]
    reference_chosen_logps: Float[np.ndarray, " pairs"]
    reference_rejected_logps: Float[np.ndarray, " pairs"]
    chosen_tokens: Int[np.ndarray, " pairs"]
    rejected_tokens: Int[np.ndarray, " pairs"]
    prompt_id: np.ndarray
    domain: np.ndarray
    unit: str

    def rows(self, selected: np.ndarray) -> "PairScores":
        """The scores of these rows only."""
        arrays = {name: value[selected] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return PairScores(**arrays, unit=self.unit)


@dataclass(frozen=True, kw_only=True)
class PairSummary:
    """What the pairs come to; the intervals resample prompts.

    Args:
        pairs: number of pairs.
        prompts: number of distinct prompts.
        accuracy: share of pairs with a margin above 0; a tie counts half.
        nll: mean of −log σ(β(x)·h), nats; log 2 = 0.693 for a policy that is its reference.
        brier: mean of (1 − σ(β(x)·h))²; ¼ for a policy that is its reference.
        ece: expected calibration error of σ(β(x)·h) over 15 bins; above 0 by chance alone.
        slope: the a with which σ(a·β(x)·h) fits best; below 1 for a policy that is too sure, infinite where every pair
            is right, not a number for a policy that is its reference.
        margin: mean of h.
        margin_unit: `nats`, `nats per token`, or that of another divergence.
        beta: mean of β(x).
        longer_wins: accuracy of the rule that the answer with more tokens wins; a tie counts half.
        gain: accuracy minus longer_wins, paired.
        rescaled: the same after one temperature, fitted on other prompts than it is read on; None for a single prompt.
        domains: the same for every domain, empty where the data has none.
    """

    pairs: int
    prompts: int
    accuracy: Interval
    nll: Interval
    brier: Interval
    ece: Interval
    slope: Interval
    margin: Interval
    margin_unit: str
    beta: Interval
    longer_wins: Interval
    gain: Interval
    rescaled: Rescaled | None
    domains: Mapping[str, "PairSummary"]

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values, for JSON."""
        return asdict(self)


@torch.no_grad()
def score_pairs(
    model: PreferenceModel,
    reference: FrozenReference,
    records: Dataset,
    collate: Collate,
    *,
    device: torch.device,
    batch_size: int = 8,
    progress: Callable[[int], None] = lambda _: None,
) -> PairScores:
    """Score every pair under policy and reference; reference columns that the records may have are not read.

    Args:
        model: policy and rule.
        reference: what the policy is compared with; it must give log PPL when the rule reads the reference's.
        records: tokenized pairs, at least one.
        collate: makes a batch of records.
        device: where both models are.
        batch_size: pairs per pass; pairs of like length share one.
        progress: called with the number of pairs of each finished pass.

    Raises:
        DataError: when a model gives log-probabilities that are not finite.
    """
    order = np.argsort([pair.longer_row for pair in tokens_of_rows(records)], kind="stable")
    found: dict[str, list[np.ndarray]] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            batch = collate([records[int(row)] for row in order[start : start + batch_size]])
            for name, values in _batch_scores(model, reference, on_device(batch, device)).items():
                found.setdefault(name, []).append(values.cpu().numpy())
            progress(len(order[start : start + batch_size]))
    back = np.argsort(order)
    columns = {name: np.concatenate(parts)[back] for name, parts in found.items()}
    broken = int((~np.isfinite(columns["margin"])).sum())
    if broken:
        raise DataError(
            f"policy and reference must give finite log-probabilities, but {broken:,} of {len(order):,} pairs have a "
            "margin that is not a number; the run has diverged, train it with a smaller `train.learning_rate`."
        )
    return PairScores(
        **columns,
        prompt_id=np.asarray(records["prompt_id"], dtype=str),
        domain=np.asarray(records["domain"], dtype=str),
        unit=model.objective.unit,
    )


def _batch_scores(model: PreferenceModel, reference: FrozenReference, batch: dict[str, Any]) -> dict[str, Tensor]:
    scores = reference.scores(bundled(batch))
    policy, features = model.scored(bundled(batch | scores.columns()), frozenset({Need.LOG_PPL}))
    margin, shaping = model.shaped(policy, features, scores)
    assert features.log_ppl is not None and features.has_ppl is not None
    return {
        "margin": margin.double(),
        "beta": shaping.beta.double(),
        "log_ppl": features.log_ppl.double().masked_fill(~features.has_ppl, torch.nan),
        "chosen_logps": policy.chosen.double(),
        "rejected_logps": policy.rejected.double(),
        "reference_chosen_logps": scores.chosen_logps.double(),
        "reference_rejected_logps": scores.rejected_logps.double(),
        "chosen_tokens": policy.chosen_tokens,
        "rejected_tokens": policy.rejected_tokens,
    }


def summary_of(scores: PairScores, *, seed: int = 0, replicates: int = REPLICATES, level: float = LEVEL) -> PairSummary:
    """Means over the pairs with their intervals, the length-only baseline beside them, also by domain.

    Args:
        scores: at least one pair.
        seed: of the resampling; the same for every mean, so that all of them see the same resamples.
        replicates: resamples drawn.
        level: the share of replicates inside an interval.
    """

    def interval(values: Float[np.ndarray, " pairs"]) -> Interval:
        return mean_interval(values, scores.prompt_id, seed=seed, replicates=replicates, level=level)

    before, rescaled = calibration_of(
        scores.beta * scores.margin, scores.prompt_id, seed=seed, replicates=replicates, level=level
    )
    right = wins(scores.margin)
    longer = wins((scores.chosen_tokens - scores.rejected_tokens).astype(np.float64))
    names = [str(name) for name in np.unique(scores.domain)]
    parts = {
        name: summary_of(scores.rows(scores.domain == name), seed=seed, replicates=replicates, level=level)
        for name in (names if len(names) > 1 else [])
    }
    return PairSummary(
        pairs=len(right),
        prompts=len(np.unique(scores.prompt_id)),
        accuracy=interval(right),
        **before.intervals(),
        margin=interval(scores.margin),
        margin_unit=scores.unit,
        beta=interval(scores.beta),
        longer_wins=interval(longer),
        gain=interval(right - longer),
        rescaled=rescaled,
        domains=parts,
    )


def wins(difference: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """1 where the difference is above 0, 0 where it is below, and ½ for a tie."""
    return (np.sign(difference) + 1.0) / 2.0
