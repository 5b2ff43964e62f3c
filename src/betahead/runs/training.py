"""One run from its configuration to its folder."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
from datasets import Dataset
from peft import PeftModel
from rich.console import Console
from transformers import PrinterCallback

from betahead.beta.files import save_rule
from betahead.evaluate.prompts import seen_in
from betahead.forward.model import Policy
from betahead.runs.build import (
    Data,
    Fitted,
    OnFit,
    arguments_of,
    data_of,
    fitted_reference,
    policy_of,
    rule_of,
    trainer_of,
)
from betahead.runs.claimed import KeepsOnceBegun, claimed_folder
from betahead.runs.config import Config, dump_config
from betahead.runs.fits import check_fits
from betahead.runs.folder import RunFolder, check_output
from betahead.runs.model_card import write_card
from betahead.runs.quiet import quieted
from betahead.runs.record import data_fingerprint, run_record
from betahead.runs.samples import answers_of, first_prompts
from betahead.runs.summary import summary_of
from betahead.train.calibration import sample_of_prompts
from betahead.train.checkpoint import hidden_size_of
from betahead.train.guards import StopWhenNotFinite, check_finite
from betahead.train.progress import LogTo, ProgressLines
from betahead.train.scoring import OnScoring, ScoringProgress
from betahead.train.snapshots import PromptSnapshots
from betahead.train.trainer import DPOTrainer
from betahead.worlds.small_model import FitProgress


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run's folder and the content of its summary.json."""

    folder: RunFolder
    summary: dict[str, Any]


def train_run(config: Config, console: Console, *, command: Sequence[str] | None = None) -> FinishedRun:
    """Train what the configuration says, and leave a complete run folder.

    Everything that a person can have got wrong is found before the folder exists.

    Args:
        config: the run.
        console: where progress is shown.
        command: the words that repeat the run; by default those this process was started with.

    Raises:
        ConfigError, DataError: see `runs.build`.
    """
    began = time.perf_counter()
    output = check_output(config.output)
    rule = rule_of(config)
    planned = arguments_of(config, output / "checkpoints")
    with quieted(), fitted_reference(config, output, on_progress=fit_lines(console)) as fitted:
        if fitted is not None:
            console.print(_fitted_line(fitted), highlight=False, soft_wrap=True)
        model, tokenizer = policy_of(config, fitted)
        data = data_of(config, tokenizer, rule, fitted)
        for role, summary in data.summaries.items():
            console.print(f"{role:<9}  {summary.line()}", markup=False, highlight=False, soft_wrap=True)
        console.print(_scoring_line(config, data), highlight=False, soft_wrap=True)
        if data.shared_prompts:
            console.print(_leak_line(data), highlight=False, soft_wrap=True)
        check_fits(config, planned, rule, model, tokenizer, data)
        with claimed_folder(output) as claim:
            folder = claim.folder
            args = arguments_of(config, folder.checkpoints)
            trainer = trainer_of(config, args, rule, model, tokenizer, data, on_scoring=scoring_lines(console))
            trainer.add_callback(KeepsOnceBegun(claim))
            folder.write_config(dump_config(config))
            folder.write_record(run_record(seed=config.seed, data=_fingerprints(config), command=command))
            if fitted is not None:
                _keep_reference(trainer.model.policy, fitted.folder, folder.path / "reference")
            console.print(f"forward    {trainer.road.line()}", highlight=False, soft_wrap=True)
            if trainer.calibration is not None:
                console.print(_calibration_line(trainer), highlight=False, soft_wrap=True)
            if trainer.held_out is not None:
                console.print(f"heldout    {trainer.held_out.cost.line()}", highlight=False, soft_wrap=True)
            if trainer.oversized is not None:
                console.print(f"passes     {trainer.oversized.line()}", highlight=False, soft_wrap=True)
            return _trained(config, console, folder, trainer, data, fitted, began)


def _trained(
    config: Config,
    console: Console,
    folder: RunFolder,
    trainer: DPOTrainer,
    data: Data,
    fitted: Fitted | None,
    began: float,
) -> FinishedRun:
    """Train, look, save, and write what was found."""
    held_out = cast("Dataset", trainer.eval_dataset)
    watched = held_out.select(range(min(config.evaluate.prompts, len(held_out))))
    shown = first_prompts(held_out, config.evaluate.samples)
    tokenizer = cast("Any", trainer.processing_class)
    before = answers_of(trainer.model.policy, tokenizer, shown, config)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressLines(console))
    trainer.add_callback(LogTo(folder.log_metrics))
    trainer.add_callback(
        PromptSnapshots(
            trainer.model,
            watched,
            trainer.reference,
            trainer.data_collator,
            folder.prompts,
            batch_size=config.evaluate.batch_size,
            precision=cast("Any", trainer.accelerator.autocast),
        )
    )

    def failed(seen: dict[str, Any]) -> None:
        folder.write_json("failures/not_finite.json", seen)

    trainer.add_callback(StopWhenNotFinite(failed))
    trained = trainer.train()
    if trainer.kl_estimates is not None:
        console.print(f"budget     {trainer.kl_estimates.line()}", highlight=False, soft_wrap=True)
    steps = trainer.state.global_step
    followed = None
    if trainer.held_out is not None:
        seconds = trained.metrics["train_runtime"]
        followed = trainer.held_out.cost.measured(seconds)
        console.print(f"heldout    {trainer.held_out.cost.spent(seconds)}", highlight=False, soft_wrap=True)
    check_finite(trainer.model, {"train_loss": trained.metrics["train_loss"]}, steps, failed)
    # Saved before anything else is tried: what comes next is only looking.
    trainer.save_model(str(folder.policy))
    save_rule(trainer.rule, folder.path, hidden_size=hidden_size_of(trainer.model.policy))
    if trainer.rule.reads in ("nothing", "prompt"):  # else a prompt has no β of its own
        folder.write_json(folder.training_prompts.name, _training_sample(trainer, config.evaluate.batch_size))
    measured = trainer.evaluate()
    check_finite(trainer.model, {"eval_loss": measured["eval_loss"]}, steps, failed)
    after = answers_of(trainer.model.policy, tokenizer, shown, config)
    for row, first, last in zip(cast("Any", shown), before, after, strict=True):
        folder.add_sample({"prompt_id": row["prompt_id"], "prompt": row["prompt"], "reference": first, "policy": last})
    summary = summary_of(
        train=trained.metrics,
        held_out=measured,
        snapshots=pq.read_table(folder.prompts),
        data=replace(data, train=cast("Dataset", trainer.train_dataset)),
        parameters=_parameters(trainer.model.policy),
        head_parameters=sum(p.numel() for p in trainer.rule.parameters()),
        calibration=trainer.calibration,
        fit=fitted.report if fitted else None,
        followed=followed,
        seconds=time.perf_counter() - began,
    )
    write_card(folder, summary)
    folder.finish(summary)
    return FinishedRun(folder=folder, summary=summary)


def _training_sample(trainer: DPOTrainer, batch_size: int) -> dict[str, Any]:
    """log PPL and β of the sampled training prompts after training, sorted: what a new prompt is compared with."""
    records, args = cast("Dataset", trainer.train_dataset), trainer.settings
    rows = sample_of_prompts(records, args.calibration_prompts, args.seed)
    with trainer.accelerator.autocast():
        seen = seen_in(
            trainer.model,
            trainer.reference,
            records.select(rows).to_list(),
            trainer.collate,
            device=args.device,
            batch_size=batch_size,
        )
    return {
        "prompts": len(seen),
        "log_ppl": sorted(one.log_ppl for one in seen if one.log_ppl is not None),
        "beta": sorted(one.beta for one in seen),
    }


def _keep_reference(policy: Policy, fitted: Path, kept: Path) -> None:
    """Copy the fitted reference into the run, and let the policy name that place: there other tools look for it.

    The name is absolute, because tools read a relative one from where they were started.
    """
    shutil.copytree(fitted, kept)
    place = str(kept.absolute())
    inner: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    inner.config.name_or_path = inner.name_or_path = place
    if isinstance(policy, PeftModel):
        for adapter in policy.peft_config.values():
            adapter.base_model_name_or_path = place


def _parameters(policy: Policy) -> dict[str, int]:
    parameters = list(policy.parameters())
    return {
        "total": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _fingerprints(config: Config) -> dict[str, dict[str, str]]:
    found = {"train": data_fingerprint(config.data.train, config.data.split)}
    if config.data.eval is not None:
        found["eval"] = data_fingerprint(config.data.eval, config.data.split)
    fit = config.model.fit
    if fit is not None and fit.corpus != "train":
        found["corpus"] = data_fingerprint(fit.corpus)
    return found


def fit_lines(console: Console, lines: int = 10) -> OnFit:
    """So many lines over the whole fit, so that a log file says how far it got too."""

    def show(progress: FitProgress) -> None:
        if progress.step % max(1, progress.steps // lines) == 0 or progress.step == progress.steps:
            console.print(
                f"fitting    {progress.step:>5}/{progress.steps} steps  loss {progress.loss:.3f} nats per token  "
                f"{progress.seconds:.0f} s",
                highlight=False,
                soft_wrap=True,
            )

    return show


def scoring_lines(console: Console, seconds: float = 10.0) -> OnScoring:
    """A line every so many seconds while the reference scores pairs, and one for each data set that is done."""
    shown = 0.0

    def show(progress: ScoringProgress) -> None:
        nonlocal shown
        report = progress.report
        if report is not None:
            shown = 0.0
            lines = [f"reference  {report.line()}", *(f"skipped    {sentence}" for sentence in report.skipped)]
        elif progress.seconds - shown >= seconds:
            shown = progress.seconds
            lines = [f"scoring    {progress.pairs:>5,}/{progress.of:,} pairs  {progress.seconds:.0f} s"]
        else:
            lines = []
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show


def _fitted_line(fitted: Fitted) -> str:
    report = fitted.report
    return (
        f"reference  {report.parameters / 1e6:.2f} M parameters, vocabulary {report.vocabulary:,}, fitted on "
        f"{report.documents:,} documents ({report.tokens:,} tokens, {report.epochs:.1f} epochs) in "
        f"{report.seconds:.0f} s"
    )


def _scoring_line(config: Config, data: Data) -> str:
    mode = "scored once, before training" if config.reference.precomputed else "scored at every step"
    mode = mode if config.reads_reference else "not read"
    counts = f"{len(data.train):,} to train on, {len(data.held_out):,} held out by prompt"
    return f"pairs      {counts}; the reference is {mode}"


def _leak_line(data: Data) -> str:
    prompts = len(set(data.held_out["prompt_id"]))
    return (
        f"leak       {data.shared_prompts:,} of the {prompts:,} held-out prompts are trained on too; what is "
        "measured on them says nothing about new ones"
    )


def _calibration_line(trainer: DPOTrainer) -> str:
    found = trainer.calibration
    assert found is not None
    return (
        f"calibrated log PPL has geometric mean {found.scale:.3f} nats per token over {found.prompts} prompts "
        f"({found.seconds:.1f} s)"
    )
