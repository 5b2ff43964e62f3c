"""`betahead compare PLAN.yaml`: methods against each other, by a plan that was fixed beforehand."""

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from betahead.errors import ConfigError

if TYPE_CHECKING:
    from betahead.compare.board import Board
    from betahead.compare.evidence import Evidence
    from betahead.compare.resolved import ResolvedPlan

_WIDTH = 140
_LINE_SECONDS = 10


def compare(
    plan: Annotated[Path | None, typer.Argument(metavar="PLAN", help="A plan in YAML.", show_default=False)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it costs and what it can find; run one small piece to time it.")
    ] = False,
    worker: Annotated[
        bool, typer.Option("--worker", help="Only work on the comparison, until it is done; needs --storage.")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            help="URL of the database that all workers share, such as postgresql+psycopg://user@host/name.",
            show_default="sqlite:///OUTPUT/work.db",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the evidence.", show_default="comparisons/NAME")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Test the protocol itself on worlds whose truth is known; no PLAN.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Compare methods by a plan: equal budgets, selection on dev, fresh finals, test opened once, a verdict."""
    elsewhere = {"--storage": storage, "--output": output, "--workers": workers if workers > 1 else None}
    if self_test:
        _refuse_with("--self-test", {"PLAN": plan, "--dry-run": dry_run, "--worker": worker, **elsewhere})
        _self_test(json_output)
        return
    if plan is None:
        raise ConfigError("PLAN must be given, but is missing; see configs/compare for plans to start from.")
    if dry_run:
        _refuse_with("--dry-run", {"--worker": worker, **elsewhere})
    if worker:
        _refuse_with("--worker", {**elsewhere, "--storage": None, "--json": json_output})
    if worker and storage is None:
        raise ConfigError("--storage must be given with --worker, but is missing; it is the URL of the comparison.")
    import torch

    from betahead.compare.board import Board
    from betahead.compare.cells import world_of
    from betahead.compare.comparison import compare as compared
    from betahead.compare.comparison import finished_evidence, folder_of, helpers, other_code, storage_of
    from betahead.compare.forecast import forecast, sentences
    from betahead.compare.record import command_line
    from betahead.compare.resolved import load_resolved
    from betahead.compare.work import work

    resolved = load_resolved(plan, world_of)
    # Runs are small: processes beside each other use the cores better than threads within one.
    torch.set_num_threads(1)
    if dry_run:
        found = forecast(resolved)
        typer.echo(json.dumps(found.to_dict(), indent=2) if json_output else "\n".join(sentences(found)))
        return
    if worker and storage is not None:
        with Board(resolved, storage) as board, _progress(resolved) as show:
            work(board, show)
        return
    folder = folder_of(resolved, output)
    url = storage_of(folder) if storage is None else storage
    if finished_evidence(resolved, folder) is None:
        Board(resolved, url).close()  # refuses and creates before others start
    with _progress(resolved) as show:
        if workers > 1 and finished_evidence(resolved, folder) is None:
            with helpers(plan, url, workers - 1, folder):
                evidence = compared(resolved, folder, url, command_line(), show)
        else:
            evidence = compared(resolved, folder, url, command_line(), show)
    _report(evidence, folder, other_code(resolved, evidence), json_output)


def _refuse_with(mode: str, unused: Mapping[str, Any]) -> None:
    """Options that would have no effect are refused."""
    for option, value in unused.items():
        if value is not None and value is not False:
            given = "given" if value is True else f"{value} instead"
            raise ConfigError(f"{option} must be left out with {mode}, but is {given}; it would have no effect.")


@contextmanager
def _progress(resolved: "ResolvedPlan") -> "Generator[Callable[[Board], None]]":
    """Runs done of all, and the time left: a bar on a terminal, else a line now and then; both on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from betahead.compare.progress import time_left

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    last = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("runs", total=None, left="")

        def show(board: "Board") -> None:
            nonlocal last
            standing = board.standing()
            left = time_left(resolved, standing)
            progress.update(task, completed=standing.done, total=left.runs_in_all, left=left.sentence)
            if not console.is_terminal and time.monotonic() - last > _LINE_SECONDS:
                last = time.monotonic()
                console.print(f"{standing.done} of {left.runs_in_all} runs, {left.sentence}", highlight=False)

        yield show


def _self_test(json_output: bool) -> None:
    import torch

    from betahead.compare.forecast import duration
    from betahead.compare.self_test import Check, self_test

    torch.set_num_threads(1)

    def say(check: Check) -> None:
        typer.echo(f"{'holds' if check.passed else 'FAILS'}  {check.sentence}")

    began = time.monotonic()
    console = Console(stderr=True)
    # A line that changes takes what is printed beside it: not while that goes to a file.
    watched = console.is_terminal and sys.stdout.isatty()
    with console.status("") if watched else nullcontext() as status:
        found = self_test(on_check=None if json_output else say, on_work=None if status is None else status.update)
    held = sum(check.passed for check in found)
    if json_output:
        typer.echo(json.dumps([check.to_dict() for check in found], indent=2))
    else:
        typer.echo(f"{held} of {len(found)} checks hold, {duration(time.monotonic() - began)}")
    if held < len(found):
        raise typer.Exit(1)


def _report(evidence: "Evidence", folder: Path, notes: Sequence[str], json_output: bool) -> None:
    for note in notes:
        typer.echo(note, err=True)
    if json_output:
        typer.echo(json.dumps(evidence.model_dump(mode="json"), ensure_ascii=False, indent=2))
    else:
        _print(evidence, folder)


def _print(evidence: "Evidence", folder: Path) -> None:
    from betahead.compare.tables import settled_by

    console = Console()
    if not console.is_terminal:  # A file or a pipe gets whole lines instead of rich's 80 columns.
        console = Console(width=_WIDTH)
    table = Table(
        "cell",
        "A",
        "B",
        "verdict",
        "effect and its interval",
        "p (Holm)",
        "P(A>B)",
        "MDE",
        "settled by (0 · 2 ROPE · seen)",
    )
    for one in evidence.tests:
        low, high = one.effect.low, one.effect.high
        bounds = "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"
        settled = settled_by(one)
        values: list[Any] = [one.cell, one.a, one.b, one.verdict, f"{one.effect.estimate:.4f}{bounds}"]
        values += [f"{one.p_holm:.2g}", f"{one.wins.estimate:.2f}", f"{one.minimum_detectable_effect:.3g}", settled]
        table.add_row(*values)
    console.print(table)
    for claim in evidence.claims:
        console.print(claim.sentence, markup=False, highlight=False)
    console.print(f"plan {evidence.plan_hash}, {folder}/evidence.md and evidence.json", markup=False, highlight=False)
