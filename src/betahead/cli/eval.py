"""`betahead eval RUN`: held-out pairs under the trained policy, and how far it moved from its reference."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from betahead.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

    from betahead.runs.opened import OpenedRun

Estimate = dict[str, float | None]

_ROWS = {
    "accuracy": "accuracy",
    "longer_wins": "longer answer wins",
    "gain": "accuracy − longer answer",
    "nll": "NLL (a coin: 0.693)",
    "margin": "margin",
    "beta": "β",
}
_FORMATS = {"gain": "+.3f", "margin": "+.3f", "beta": ".4g"}
_WIDTH = 140


def evaluate_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(
            help="Pairs the run has not seen: a file or a Hub name.", show_default="the pairs the run held out"
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of --data: auto, explicit, chat, ultrafeedback, hh.")] = "auto",
    split: Annotated[str, typer.Option(help="Which split of --data, if it has several.")] = "train",
    kl_prompts: Annotated[
        int, typer.Option(min=0, help="Prompts that the policy answers for its KL; 0 for none.")
    ] = 32,
    kl_samples: Annotated[int, typer.Option(min=1, help="Answers to each of them.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of these answers at most.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals, the chosen prompts and the answers.")] = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pairs a pass.", show_default="the run's")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    save: Annotated[bool, typer.Option("--save", help="Also write eval.json into the run's folder.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also open a run that has no file DONE.")] = False,
) -> None:
    """Score held-out pairs: accuracy, NLL and margin with intervals by prompt, and the KL to the reference."""
    # Imported here, so that `betahead --help` does not wait for torch.
    from betahead.data.sources import source_rows
    from betahead.evaluate.pairs import score_pairs, summary_of
    from betahead.runs.atomic import plain
    from betahead.runs.opened import open_run
    from betahead.runs.quiet import quieted

    if data is not None:
        with quieted():
            next(source_rows(data, split))  # What is wrong with the file is said before models are loaded.
    opened = open_run(run, device=device, unfinished=unfinished)
    rows = batch_size or opened.config.evaluate.batch_size
    with quieted():
        summary = None
        apart = data is None and opened.config.data.eval is None  # split off by prompt
        trained = frozenset[str]() if apart else opened.trained_prompts()
        if data is None:
            if apart:
                _refuse_changed_data(opened)
            records = opened.held_out()
        else:
            _refuse_training_data(opened, data)
            prepared = opened.pairs(data, split=split, layout=layout)
            records, summary = prepared.dataset, prepared.summary
        with _bar(len(records)) as progress:
            scores = score_pairs(
                opened.model,
                opened.reference,
                records,
                opened.collate,
                device=opened.device,
                batch_size=rows,
                progress=progress,
            )
        found: dict[str, Any] = {
            "run": str(opened.folder.path),
            "data": data or opened.config.data.eval or f"held out of {opened.config.data.train}",
            "rows": None if summary is None else summary.to_dict(),
            "shared_prompts": None if trained is None else len(trained & set(records["prompt_id"])),
            "seed": seed,
            "pairs": summary_of(scores, seed=seed).to_dict(),
            "kl": _kl(opened, records, kl_prompts, kl_samples, max_new_tokens, seed, rows) if kl_prompts else None,
        }
    if save:
        opened.folder.write_json("eval.json", found)
    if json_output:
        typer.echo(json.dumps(plain(found), ensure_ascii=False, indent=2))
    else:
        _print(found, "" if summary is None else summary.line())


@contextmanager
def _bar(pairs: int) -> Generator[Callable[[int], None]]:
    """A progress bar on a terminal's stderr; stdout is for the numbers."""
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("scoring pairs", total=pairs)
        yield lambda done: progress.advance(task, done)


def _refuse_changed_data(opened: "OpenedRun") -> None:
    """What was held out follows from the data: of changed data, prompts that were trained on would seem held out."""
    from betahead.data.paths import expanded
    from betahead.runs.record import data_fingerprint

    source = opened.config.data.train
    there = opened.trained_file is not None and Path(expanded(source)).is_file()
    if there and data_fingerprint(source).get("sha256") != opened.trained_file:
        raise DataError(
            f"`data.train` must be what the run was trained on, but {source} has changed since, and what was held out "
            "with it; restore the file, or give pairs that the run has not seen as --data."
        )


def _refuse_training_data(opened: "OpenedRun", source: str) -> None:
    """Accuracy on what was trained on says nothing of what is held out."""
    from betahead.data.paths import expanded
    from betahead.runs.record import data_fingerprint

    if Path(expanded(source)).is_file() and data_fingerprint(source).get("sha256") == opened.trained_file:
        raise DataError(
            f"`--data` must hold pairs that the run has not seen, but {source} is the file it was trained on; leave "
            "--data out to score the pairs that the run held out."
        )


def _kl(
    opened: "OpenedRun", records: "Dataset", prompts: int, samples: int, max_new_tokens: int, seed: int, batch_size: int
) -> dict[str, Any]:
    """The KL of the policy's own answers to distinct prompts of the data, drawn with the seed."""
    from dataclasses import asdict

    import numpy as np

    from betahead.data.lengths import tokens_of_rows
    from betahead.data.templates import PromptRenderer
    from betahead.evaluate.kl import kl_to_reference
    from betahead.train.sizes import check_room

    check_room(
        opened.model.policy,
        max(one.prompt for one in tokens_of_rows(records)),
        max_new_tokens,
        "--max-new-tokens",
    )
    distinct = np.unique(np.asarray(records["prompt_id"], dtype=str), return_index=True)[1]
    chosen = np.random.default_rng(seed).permutation(distinct)[:prompts]
    estimate = kl_to_reference(
        opened.model.policy,
        opened.reference_model,
        opened.tokenizer,
        [records[int(row)]["prompt_ids"] for row in chosen],
        samples=samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        eos_token_ids=PromptRenderer(opened.tokenizer, opened.config.data.prompt_template).end_ids,
        batch_size=batch_size,
    )
    return {
        **asdict(estimate.kl),
        "sampled": asdict(estimate.sampled),
        "cut": estimate.cut,
        "mean_tokens": estimate.mean_tokens,
        "max_new_tokens": max_new_tokens,
    }


def _print(found: dict[str, Any], rows: str) -> None:
    console = Console()
    if not console.is_terminal:  # A file or a pipe gets whole lines instead of rich's 80 columns.
        console = Console(width=_WIDTH)
    pairs = found["pairs"]
    unit = pairs["margin_unit"]
    console.print(
        f"{found['data']}: {pairs['pairs']:,} pairs, {pairs['prompts']:,} distinct prompts",
        markup=False,
        highlight=False,
    )
    if rows:
        console.print(rows, markup=False, highlight=False)
    if found["shared_prompts"] != 0:
        console.print(_leak_line(found["shared_prompts"], pairs["prompts"]), markup=False, highlight=False)
    table = Table("", "mean and its 95 % interval, resampling prompts")
    for key, label in _ROWS.items():
        table.add_row(f"{label}, {unit}" if key == "margin" else label, _interval(pairs[key], _FORMATS.get(key, ".3f")))
    console.print(table)
    if pairs["domains"]:
        console.print(_by_domain(pairs["domains"], unit))
    if found["kl"] is not None:
        console.print(_kl_line(found["kl"]), markup=False, highlight=False)


def _leak_line(shared: int | None, prompts: int) -> str:
    if shared is None:
        return "leak unknown: the run's training data are no longer there to compare the prompts with"
    return (
        f"leak: {shared:,} of the {prompts:,} prompts were trained on too; what is measured on them says nothing about "
        "new ones"
    )


def _by_domain(domains: dict[str, Any], unit: str) -> Table:
    table = Table("domain", "pairs", "accuracy", "accuracy − longer answer", f"margin, {unit}", "β")
    for name, part in domains.items():
        intervals = (_interval(part[key], _FORMATS.get(key, ".3f")) for key in ("accuracy", "gain", "margin", "beta"))
        table.add_row(Text(name or "(none)"), f"{part['pairs']:,}", *intervals)
    return table


def _interval(estimate: Estimate, form: str) -> Text:
    value, low, high = (estimate[name] for name in ("estimate", "low", "high"))
    if low is None or high is None:
        return Text(f"{value:{form}} [one prompt]")
    return Text(f"{value:{form}} [{low:{form}}, {high:{form}}]")


def _kl_line(kl: dict[str, Any]) -> str:
    error = kl["standard_error"]
    spread = "" if error is None else f" ± {error:.2g} (standard error)"
    return (
        f"KL to the reference: {kl['nats']:.4g}{spread} nats per answer, from {kl['answers']} answers of "
        f"{kl['mean_tokens']:.0f} tokens on average to {kl['prompts']} prompts; {kl['cut']:.0%} of the answers were "
        f"cut at {kl['max_new_tokens']} tokens"
    )
