"""A dry run: everything is built, one batch of two pairs goes through on the CPU, and the plan is printed."""

import tempfile
import time
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.runs.build import Data, arguments_of, data_of, fitted_reference, policy_of, rule_of, trainer_of
from betahead.runs.config import Config
from betahead.runs.fits import check_fits
from betahead.runs.folder import check_output
from betahead.runs.quiet import quieted
from betahead.train.calibration import sample_of_prompts
from betahead.train.trainer import DPOTrainer

_CPU: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "fp16": False,
    "tf32": None,
    "report_to": "none",
    "push_to_hub": False,
}


def dry_run_of(config: Config, console: Console) -> None:
    """Check a configuration to its end without training: nothing is left behind.

    Raises:
        ConfigError, DataError: what the run itself would raise.
    """
    output = check_output(config.output)
    rule = rule_of(config)
    planned = arguments_of(config, output / "checkpoints", **_CPU)
    with quieted(), fitted_reference(config, output, steps=1) as fitted, tempfile.TemporaryDirectory() as scratch:
        model, tokenizer = policy_of(config, fitted)
        data = data_of(config, tokenizer, rule, fitted)
        steps = check_fits(config, planned, rule, model, tokenizer, data)
        two = Data(
            # One of two prompts may be held out for β.
            train=data.train.select(sample_of_prompts(data.train, 2, config.seed)),
            held_out=data.held_out.select(range(1)),
            summaries=data.summaries,
        )
        args = arguments_of(config, Path(scratch), keep_scores=False, **_CPU)
        trainer = trainer_of(config, args, rule, model, tokenizer, two)
        loss, seconds = _one_batch(trainer)
    table = Table(title=f"plan of {config.output}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for role, summary in data.summaries.items():
        table.add_row(role, summary.line())
    policy = trainer.model.policy
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    table.add_row("pairs", f"{len(data.train):,} to train on, {len(data.held_out):,} held out by prompt")
    table.add_row("model", f"{sum(p.numel() for p in policy.parameters()):,} parameters, {trained:,} of them trained")
    if fitted is not None and config.model.fit is not None:
        table.add_row("fit", f"a reference of that size on {config.model.fit.tokens:,} tokens first (one step here)")
    table.add_row("beta", _rule_line(rule))
    per_step = planned.per_device_train_batch_size * planned.gradient_accumulation_steps * planned.world_size
    table.add_row("steps", f"{steps:,} of {per_step} pairs, learning rate {planned.learning_rate:g}")
    precision = next((name for name in ("bf16", "fp16") if config.train.get(name)), "none")
    table.add_row("precision", f"{config.model.dtype} weights, mixed precision: {precision} (none in this dry run)")
    where = planned.reference_cache
    scored = "scored live" if where is None else f"scored once before training, kept in {where}"
    table.add_row("reference", scored if config.reads_reference else "not read")
    table.add_row("forward", trainer.road.line())
    pairs = len(cast("Dataset", trainer.train_dataset))
    table.add_row(
        "one batch", f"{pairs} {'pair' if pairs == 1 else 'pairs'} in {seconds:.2f} s on the CPU, loss {loss:.4f}"
    )
    console.print(table)
    console.print("nothing was trained or written", highlight=False)


def _one_batch(trainer: DPOTrainer) -> tuple[float, float]:
    """Loss and seconds of one forward and backward pass over the training records, without a step."""
    rows: list[dict[str, Any]] = [dict(row) for row in trainer.train_dataset]
    batch = dict(trainer.collate(rows))
    began = time.perf_counter()
    loss = trainer.compute_loss(trainer.model.train(), batch)
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    return float(loss.detach()), time.perf_counter() - began


def _rule_line(rule: Any) -> str:
    if isinstance(rule, FixedBeta):
        return f"fixed at {rule.beta}"
    if not isinstance(rule, LearnedBeta):
        settings = ", ".join(f"{name} {value}" for name, value in rule.settings.items())
        return f"{rule.card.title} ({settings}); reads the {rule.reads}"
    s = rule.resolved
    needs = ", ".join(sorted(rule.needs)) or "nothing"
    size = sum(p.numel() for p in rule.parameters())
    return (
        f"learned ({rule.mode.kind}), {s.form} with a {s.net} net of {size:,} parameters, from {s.initial_beta:g} "
        f"within [{s.bounds[0]:g}, {s.bounds[1]:g}]; reads {needs}"
    )
