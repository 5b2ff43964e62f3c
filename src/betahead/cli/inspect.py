"""`betahead inspect RUN`: the beta that a run learned for given prompts, and where it comes from."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from betahead.errors import ConfigError

if TYPE_CHECKING:
    from betahead.evaluate.prompts import PromptView, Snapshot
    from betahead.runs.opened import OpenedRun

_ARROWS = {"up": "↑", "down": "↓", "none": "=", None: ""}
_SHOWN = 48
_WIDTH = 120


def inspect_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt; may be repeated.")] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="A file of prompts: .jsonl (field `prompt`: text or messages) or .txt (one a line)."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also open a run that has no file DONE.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let a run that asks for it run the code of its model.")
    ] = False,
) -> None:
    """Show log PPL, f and beta of prompts, and where they lie among the prompts of the run."""
    if not prompt and prompts is None:
        raise ConfigError('A prompt must be given, but there is none; add --prompt "…" or --prompts FILE.')
    # Imported here, so that `betahead --help` does not wait for torch.
    from betahead.data.rows import Row
    from betahead.evaluate.prompt_records import prompts_of
    from betahead.runs.inspected import Inspector
    from betahead.runs.opened import open_run

    rows = [Row(values={"prompt": text}, where=f"--prompt {n}") for n, text in enumerate(prompt or [], 1)]
    rows += [] if prompts is None else prompts_of(prompts)
    opened = open_run(run, device=device, unfinished=unfinished, trust_remote_code=trust_remote_code)
    inspector = Inspector(opened)
    snapshot, training = inspector.held_out, inspector.training
    views = inspector.views(inspector.records(rows))
    if json_output:
        typer.echo(json.dumps(_described(opened, snapshot, training, views), ensure_ascii=False, indent=2))
    else:
        _print(opened, snapshot, training, views)


def _described(
    opened: "OpenedRun", snapshot: "Snapshot", training: "Snapshot | None", views: "list[PromptView]"
) -> dict[str, Any]:
    rule = opened.rule
    return {
        "run": str(opened.folder.path),
        "rule": {
            "kind": rule.kind,
            "bounds": None if rule.bounds is None else list(rule.bounds),
            "ppl_from": rule.ppl_from,
            **{name: float(value) for name, value in rule.log_metrics().items()},
        },
        "held_out": {"prompts": len(snapshot.beta), "progress": snapshot.progress},
        "training": None if training is None else {"prompts": len(training.beta)},
        "prompts": [view.to_dict() for view in views],
    }


def _print(opened: "OpenedRun", snapshot: "Snapshot", training: "Snapshot | None", views: "list[PromptView]") -> None:
    console = _console()
    table = Table(title=Text(f"{opened.folder.path} ({opened.rule.kind} β)"), title_justify="left")
    table.add_column("prompt", ratio=1, overflow="ellipsis", no_wrap=True)
    for heading in ("tokens", "log PPL", "rank", "f", "", "β", "rank"):
        table.add_column(heading, justify="right", no_wrap=True)
    for view in views:
        table.add_row(
            Text(_short(view.prompt)),
            f"{view.tokens}",
            _number(view.log_ppl),
            _ranks(view.log_ppl_training_quantile, view.log_ppl_quantile),
            _number(view.f),
            _ARROWS[view.pushed],
            f"{view.beta:.4g}{' |' if view.at_bound else ''}",
            _ranks(view.beta_training_quantile, view.beta_quantile),
        )
    console.print(table)
    sample = "the run kept none" if training is None else f"{len(training.beta)} sampled, at the end"
    for line in (
        f"rank: share with a smaller value, first of the run's training prompts ({sample}),",
        f"then of its {len(snapshot.beta)} held-out prompts at {snapshot.progress:.0%} of training.",
        "↑ ↓: f pushed β up or down from what the rule gives without its net; |: a bound holds β.",
    ):
        console.print(line, highlight=False, markup=False)


def _console() -> Console:
    """A terminal's own width; a file or a pipe gets whole lines instead of rich's 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _short(prompt: str) -> str:
    """The prompt on one line: control characters would reach the terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in prompt).split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _ranks(trained: float | None, held_out: float | None) -> str:
    """Two shares beside each other; one dash for a prompt or a rule without either."""
    if trained is None and held_out is None:
        return "–"
    return " / ".join("–" if value is None else f"{value:.0%}" for value in (trained, held_out))
