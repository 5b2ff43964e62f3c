"""One run from its configuration to its folder."""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
from datasets import Dataset
from peft import PeftModel
from rich.console import Console
from transformers import PrinterCallback

from betahead.beta.files import save_rule
from betahead.durable import sync_tree
from betahead.errors import WorkerError
from betahead.evaluate.prompts import seen_in
from betahead.forward.model import Policy
from betahead.runs.adapters import keep_start, merge_policy
from betahead.runs.build import Data, Fitted, arguments_of, data_of, policy_of, rule_of, trainer_of
from betahead.runs.claimed import KeepsOnceBegun, OneProcess, disk_refusals
from betahead.runs.config import Config, dump_config
from betahead.runs.fits import check_fits
from betahead.runs.folder import RunFolder, check_output
from betahead.runs.model_card import write_card
from betahead.runs.other_ranks import console_of_rank, folder_of_rank
from betahead.runs.quiet import quieted
from betahead.runs.record import data_fingerprint, run_record
from betahead.runs.resuming import (
    Resumption,
    check_same_data,
    clear_empty_places,
    clear_fits,
    finished_summary,
    going_on,
    reference_of,
    resumption,
)
from betahead.runs.run_lines import calibration_line, fit_lines, fitted_line, leak_line, scoring_line, scoring_lines
from betahead.runs.samples import answers_of, first_prompts
from betahead.runs.summary import summary_of
from betahead.train.calibration import sample_of_prompts
from betahead.train.checkpoint import hidden_size_of
from betahead.train.guard_finite import check_finite
from betahead.train.progress import LogTo, ProgressLines
from betahead.train.ranks import check_ranks, first_rank, lost_ranks_told
from betahead.train.snapshots import PromptSnapshots
from betahead.train.spread import whole_state
from betahead.train.stopping import StopOnSignal, Stopped
from betahead.train.trainer import DPOTrainer


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run's folder and the content of its summary.json, which is empty on all ranks but the first."""

    folder: RunFolder
    summary: dict[str, Any]


def train_run(
    config: Config,
    console: Console,
    *,
    command: Sequence[str] | None = None,
    resume: bool = False,
    stop: StopOnSignal | None = None,
) -> FinishedRun:
    """Train what the configuration says, and leave a complete run folder.

    Everything that a person can have got wrong is found before the folder exists.

    Args:
        config: the run.
        console: where progress is shown.
        command: the words that repeat the run; by default those this process was started with.
        resume: go on with what lies in the folder; where nothing does, begin.
        stop: hears the signals that are to end training early.

    Raises:
        ConfigError, DataError: see `runs.build` and `runs.resuming`; or the disk took no more.
        RankError, WorkerError: another rank, or a worker of the data loader, is gone.
        Stopped: a signal ended it; `stop` knows whether there is a checkpoint.
    """
    path, console = Path(config.output).expanduser(), console_of_rank(console)
    with quieted(), OneProcess() as alone, disk_refusals(path), lost_ranks_told():
        resumed = None
        if resume:
            alone.hold(path)
            clear_fits(path)
            resumed = resumption(config, partial(_say, console))
            if resumed is None:
                clear_empty_places(path)
            elif resumed.folder.finished:
                return FinishedRun(folder=resumed.folder, summary=finished_summary(resumed.folder))
        return _begun(config, console, command, resumed, alone, stop)


def _begun(
    config: Config,
    console: Console,
    command: Sequence[str] | None,
    resumed: Resumption | None,
    alone: OneProcess,
    stop: StopOnSignal | None,
) -> FinishedRun:
    """Find what is wrong, make or put back the folder, and train."""
    began, say = time.perf_counter(), partial(_say, console)
    output = check_output(config.output) if resumed is None else resumed.folder.path
    rule = rule_of(config)
    planned = arguments_of(config, output / "checkpoints")
    check_ranks(planned)
    with reference_of(config, output, resumed, on_progress=fit_lines(console)) as fitted:
        if fitted is not None:
            say(fitted_line(fitted))
        model, tokenizer = policy_of(config, fitted)
        data = data_of(config, tokenizer, rule, fitted)
        for role, summary in data.summaries.items():
            say(f"{role:<9}  {summary.line()}")
        say(scoring_line(config, data))
        if data.shared_prompts:
            say(leak_line(data))
        check_fits(config, planned, rule, model, tokenizer, data)
        found = _fingerprints(config)
        record = run_record(seed=config.seed, data=found, command=command)
        if fitted is not None:
            record["fit"] = dataclasses.asdict(fitted.report)
        if resumed is not None:
            check_same_data(resumed.before, found)
        with folder_of_rank(output, None if resumed is None else going_on(resumed, record)) as claim:
            folder = claim.folder
            alone.hold(folder.path)
            args = arguments_of(config, folder.checkpoints)
            trainer = trainer_of(config, args, rule, model, tokenizer, data, on_scoring=scoring_lines(console))
            trainer.add_callback(KeepsOnceBegun(claim))
            trainer.finite.write = claim.write_failure
            if resumed is None:
                folder.write_config(dump_config(config))
                folder.write_record(record)
            if first_rank():
                keep_start(config, trainer.model.policy, folder)
            if fitted is not None and first_rank():
                _keep_reference(trainer.model.policy, fitted.folder, folder.path / "reference")
            say(f"forward    {trainer.road.line()}")
            if trainer.calibration is not None:
                say(calibration_line(trainer))
            if trainer.held_out is not None:
                say(f"heldout    {trainer.held_out.cost.line()}")
            if trainer.oversized is not None:
                say(f"passes     {trainer.oversized.line()}")
            checkpoint = None if resumed is None else resumed.checkpoint
            return _trained(config, console, folder, trainer, data, fitted, began, checkpoint, stop)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _trained(
    config: Config,
    console: Console,
    folder: RunFolder,
    trainer: DPOTrainer,
    data: Data,
    fitted: Fitted | None,
    began: float,
    checkpoint: Path | None,
    stop: StopOnSignal | None,
) -> FinishedRun:
    """Train, look, save, and write what was found."""
    held_out = cast("Dataset", trainer.eval_dataset)
    watched = held_out.select(range(min(config.evaluate.prompts, len(held_out))))
    shown = first_prompts(held_out, config.evaluate.samples)
    tokenizer = cast("Any", trainer.processing_class)
    answers = partial(answers_of, trainer.model.policy, tokenizer, shown, config)
    before = trainer.model.within(answers)
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
    if stop is not None:
        trainer.add_callback(stop)
    try:
        trained = trainer.train(resume_from_checkpoint=checkpoint)
    except WorkerError as error:
        if stop is None or not stop.asked:
            raise
        raise Stopped from error  # the signal has ended a worker before it could turn a deaf ear
    if stop is not None and stop.saved_at is not None:
        raise Stopped
    if trainer.kl_estimates is not None:
        console.print(f"budget     {trainer.kl_estimates.line()}", highlight=False, soft_wrap=True)
    steps, followed = trainer.state.global_step, None
    if trainer.held_out is not None:
        seconds = trained.metrics["train_runtime"]
        followed = trainer.held_out.cost.measured(seconds)
        console.print(f"heldout    {trainer.held_out.cost.spent(seconds)}", highlight=False, soft_wrap=True)
    check_finite(trainer.model, {"train_loss": trained.metrics["train_loss"]}, steps, folder.write_failure)
    # Saved before anything else is tried: what comes next is only looking.
    trainer.save_model(str(folder.policy))
    numbers = whole_state(trainer.rule)
    if first_rank():
        save_rule(trainer.rule, folder.path, hidden_size=hidden_size_of(trainer.model.policy), state=numbers)
    if trainer.rule.reads in ("nothing", "prompt"):  # else a prompt has no β of its own
        folder.write_json(folder.training_prompts.name, _training_sample(trainer, config.evaluate.batch_size))
    measured = trainer.evaluate()
    check_finite(trainer.model, {"eval_loss": measured["eval_loss"]}, steps, folder.write_failure)
    after = trainer.model.within(answers)
    for row, first, last in zip(cast("Any", shown), before, after, strict=True):
        folder.add_sample({"prompt_id": row["prompt_id"], "prompt": row["prompt"], "reference": first, "policy": last})
    if not first_rank():
        return FinishedRun(folder=folder, summary={})
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
    merge_policy(config, folder)
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
    if fitted != kept:  # else the run is resumed
        shutil.copytree(fitted, kept)
        sync_tree(kept)
    place = str(kept.absolute())
    inner: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
    inner.config.name_or_path = inner.name_or_path = place
    if isinstance(policy, PeftModel):
        for adapter in policy.peft_config.values():
            adapter.base_model_name_or_path = place


def _parameters(policy: Policy) -> dict[str, int]:
    parameters = list(policy.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    return {"total": sum(p.numel() for p in parameters), "trained": trained}


def _fingerprints(config: Config) -> dict[str, dict[str, str]]:
    found = {"train": data_fingerprint(config.data.train, config.data.split)}
    if config.data.eval is not None:
        found["eval"] = data_fingerprint(config.data.eval, config.data.split)
    fit = config.model.fit
    if fit is not None and fit.corpus != "train":
        found["corpus"] = data_fingerprint(fit.corpus)
    return found
