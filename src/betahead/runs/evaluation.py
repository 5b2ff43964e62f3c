"""Everything that `betahead eval` finds out about a run, as one mapping: the content of eval.json."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from betahead.data.paths import expanded
from betahead.data.saved import is_saved
from betahead.data.summary import DataSummary
from betahead.errors import DataError
from betahead.evaluate.kl import kl_to_reference
from betahead.evaluate.pairs import score_pairs, summary_of
from betahead.runs.answers import answer_ids, check_answers_fit, drawn_prompts, end_ids
from betahead.runs.judging import Approve, JudgeChoice, judged
from betahead.runs.opened import OpenedRun
from betahead.runs.record import data_fingerprint
from betahead.stats.bootstrap import mean_interval

SCHEMA_VERSION = 1

Progress = Callable[[str, int], Callable[[int], None]]
"""From a title and how much there is to do to what is called as it is done."""


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """What is to be measured.

    Args:
        data: pairs that the run has not seen; None for those that it held out.
        layout: of `data`.
        split: of `data`, if it has several.
        kl_prompts: prompts that policy and reference answer for the KL and the lengths; 0 for none.
        kl_samples: answers to each of them.
        max_new_tokens: length of an answer at most.
        seed: of the intervals, the chosen prompts and the answers.
        batch_size: rows a pass; the run's when None.
        judge: who compares answers; None for nobody.
    """

    data: str | None = None
    layout: str = "auto"
    split: str = "train"
    kl_prompts: int = 32
    kl_samples: int = 4
    max_new_tokens: int = 128
    seed: int = 0
    batch_size: int | None = None
    judge: JudgeChoice | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found, as eval.json holds it, and what became of the rows of `data`."""

    found: dict[str, Any]
    rows: DataSummary | None


def evaluation_of(opened: OpenedRun, request: EvalRequest, *, approve: Approve, progress: Progress) -> Evaluation:
    """The measurements that were asked for; docs/eval.md says what each key is.

    Args:
        approve: see `runs.judging.judged`.
        progress: shows how far it got.

    Raises:
        DataError: for data that cannot be used, were trained on, or have changed since.
        ConfigError: for settings that do not fit the run.
    """
    rows = request.batch_size or opened.config.evaluate.batch_size
    apart = request.data is None and opened.config.data.eval is None  # split off by prompt
    trained = frozenset[str]() if apart else opened.trained_prompts()
    summary = None
    if request.data is None:
        if apart:
            _refuse_changed_data(opened)
        records = opened.held_out()
    else:
        prepared = opened.pairs(request.data, split=request.split, layout=request.layout)
        _refuse_training_data(opened, request.data, request.split)
        records, summary = prepared.dataset, prepared.summary
    # First, because a person may be asked whether to go on.
    win_rate = None
    if request.judge is not None:
        win_rate = judged(
            opened,
            records,
            request.judge,
            max_new_tokens=request.max_new_tokens,
            seed=request.seed,
            batch_size=rows,
            approve=approve,
            progress=progress,
        )
    scores = score_pairs(
        opened.model,
        opened.reference,
        records,
        opened.collate,
        device=opened.device,
        batch_size=rows,
        progress=progress("scoring pairs", len(records)),
    )
    kl, answers = _answered(opened, records, request, rows) if request.kl_prompts else (None, None)
    found = {
        "schema_version": SCHEMA_VERSION,
        "run": str(opened.folder.path),
        "data": request.data or opened.config.data.eval or f"held out of {opened.config.data.train}",
        "rows": None if summary is None else summary.to_dict(),
        "shared_prompts": None if trained is None else len(trained & set(records["prompt_id"])),
        "seed": request.seed,
        "pairs": summary_of(scores, seed=request.seed).to_dict(),
        "kl": kl,
        "answers": answers,
        "win_rate": win_rate,
    }
    return Evaluation(found=found, rows=summary)


def _answered(
    opened: OpenedRun, records: Dataset, request: EvalRequest, rows: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The KL of the policy's own answers, and how long they are beside the reference's."""
    check_answers_fit(opened, records, request.max_new_tokens)
    prompts = drawn_prompts(records, request.kl_prompts, request.seed)
    sampling = {"samples": request.kl_samples, "max_new_tokens": request.max_new_tokens, "batch_size": rows}
    ends = end_ids(opened)
    estimate = kl_to_reference(
        opened.model.policy,
        opened.reference_model,
        opened.tokenizer,
        list(prompts["prompt_ids"]),
        seed=request.seed,
        eos_token_ids=ends,
        **sampling,
    )
    theirs = answer_ids(opened, "reference", prompts, seed=request.seed + 1, **sampling)
    kl = {
        **asdict(estimate.kl),
        "sampled": asdict(estimate.sampled),
        "cut": estimate.cut,
        "mean_tokens": estimate.mean_tokens,
        "max_new_tokens": request.max_new_tokens,
    }
    lengths = [np.array([[len(one) for one in given] for given in by]) for by in (estimate.answers, theirs)]
    clusters = np.repeat(np.asarray(prompts["prompt_id"], dtype=str), request.kl_samples)
    policy, reference, difference = (
        asdict(mean_interval(tokens.ravel().astype(np.float64), clusters, seed=request.seed))
        for tokens in (*lengths, lengths[0] - lengths[1])
    )
    return kl, {
        "prompts": len(prompts),
        "samples": request.kl_samples,
        "max_new_tokens": request.max_new_tokens,
        "policy_tokens": policy,
        "reference_tokens": reference,
        "difference": difference,
        "policy_cut": estimate.cut,
        "reference_cut": float(np.mean([one[-1] not in ends for given in theirs for one in given])),
    }


def _refuse_changed_data(opened: OpenedRun) -> None:
    """What was held out follows from the data: of changed data, prompts that were trained on would seem held out."""
    source, before = opened.config.data.train, opened.trained_digest
    now = None if before is None else _digest(source, opened.config.data.split, "`data.train`")
    if now is not None and now != before:
        raise DataError(
            f"`data.train` must be what the run was trained on, but {source} has changed since, and what was held out "
            "with it; restore it, or give pairs that the run has not seen as --data."
        )


def _refuse_training_data(opened: OpenedRun, source: str, split: str) -> None:
    """Accuracy on what was trained on says nothing of what is held out."""
    given = _digest(source, split, "--data")
    if given is not None and given == opened.trained_digest:
        raise DataError(
            f"`--data` must hold pairs that the run has not seen, but {source} is what it was trained on; leave "
            "--data out to score the pairs that the run held out."
        )


def _digest(source: str, split: str, name: str) -> str | None:
    """The digest of a file or a saved data set; None where neither lies there, and for a name on the Hub."""
    path = Path(expanded(source))
    return data_fingerprint(source, split).get("sha256") if path.is_file() or is_saved(path, name) else None
