"""What a run comes to: the numbers of `summary.json`, and the table that ends the terminal output."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from rich.table import Table

from betahead.runs.build import Data
from betahead.train.calibration import Calibration
from betahead.worlds.small_model import FitReport


def summary_of(
    *,
    train: Mapping[str, float],
    held_out: Mapping[str, float],
    snapshots: pa.Table,
    data: Data,
    parameters: Mapping[str, int],
    head_parameters: int,
    calibration: Calibration | None,
    fit: FitReport | None,
    followed: Mapping[str, float] | None,
    seconds: float,
) -> dict[str, Any]:
    """The content of `summary.json`; β at the start and the end is that of the watched held-out prompts."""
    return {
        "schema_version": 1,
        "held_out": {name.removeprefix("eval_"): value for name, value in held_out.items()},
        "train": dict(train),
        "beta_start": beta_distribution(snapshots, first=True),
        "beta_end": beta_distribution(snapshots, first=False),
        "data": {role: found.to_dict() for role, found in data.summaries.items()},
        "pairs": {"train": len(data.train), "held_out": len(data.held_out)},
        "held_out_prompts_trained_on": data.shared_prompts,
        "parameters": {**parameters, "beta_head": head_parameters},
        "calibration": None if calibration is None else asdict(calibration),
        "fit": None if fit is None else asdict(fit),
        "heldout": None if followed is None else dict(followed),
        "seconds": seconds,
    }


def beta_distribution(snapshots: pa.Table, *, first: bool) -> dict[str, float | None]:
    """Quantiles of β over distinct prompts in the first or last snapshot, and its correlation with log PPL.

    Returns:
        `min`, `q25`, `median`, `q75`, `max`, `mean` of β and `log_ppl_correlation`, Pearson's of log β with
        log PPL, None where either does not vary.
    """
    steps = snapshots["step"].to_numpy()
    rows = snapshots.filter(pa.array(steps == (steps.min() if first else steps.max())))
    _, one = np.unique(rows["prompt_id"].to_numpy(zero_copy_only=False), return_index=True)
    beta = rows["beta"].to_numpy()[one].astype(np.float64)
    log_ppl = rows["log_ppl"].to_numpy(zero_copy_only=False)[one].astype(np.float64)
    names = ("min", "q25", "median", "q75", "max")
    found: dict[str, float | None] = dict(zip(names, np.quantile(beta, (0, 0.25, 0.5, 0.75, 1)).tolist(), strict=True))
    found["mean"] = float(beta.mean())
    known = np.isfinite(log_ppl)
    varies = known.sum() > 1 and np.ptp(beta[known]) > 1e-6 * beta.mean() and np.ptp(log_ppl[known]) > 0
    found["log_ppl_correlation"] = float(np.corrcoef(np.log(beta[known]), log_ppl[known])[0, 1]) if varies else None
    return found


def summary_table(summary: Mapping[str, Any], title: str) -> Table:
    """The table that ends a run: held-out pairs, β, and what it took."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    held_out = summary["held_out"]
    pairs = summary["pairs"]
    table.add_row("held-out pairs", f"{pairs['held_out']:,} (trained on {pairs['train']:,})")
    table.add_row("accuracy", f"{held_out['rewards/accuracies']:.3f} of them with a positive margin")
    table.add_row("margin", f"{held_out['margins/nats']:+.3f} nats on average")
    table.add_row("loss", f"{held_out['loss']:.4f}")
    for name, label in (("beta_start", "β before"), ("beta_end", "β after")):
        found = summary[name]
        table.add_row(
            label,
            f"median {found['median']:.3g}, from {found['min']:.3g} to {found['max']:.3g}"
            + _correlated(found["log_ppl_correlation"]),
        )
    head = summary["parameters"]["beta_head"]
    table.add_row(
        "parameters", f"{summary['parameters']['trained']:,} of the policy trained, {head:,} in the beta head"
    )
    table.add_row("time", f"{summary['seconds']:.0f} s in all, {summary['train']['train_runtime']:.0f} s training")
    return table


def _correlated(value: float | None) -> str:
    return "" if value is None else f"; correlation of log β with log PPL {value:+.2f}"
