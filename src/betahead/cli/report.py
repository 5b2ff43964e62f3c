"""`betahead report`: what a run or a comparison found, as one page to look at and to send."""

import json
import os
import sys
import webbrowser
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Open(StrEnum):
    """Whether the page is opened in a browser."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN [RUN …] | COMPARISON",
            help="Folders of runs, or the folder of one comparison.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The HTML file.", show_default="report.html in the first folder"),
    ] = None,
    open_: Annotated[
        Open, typer.Option("--open", help="Open it in a browser; auto: at a terminal with a screen.")
    ] = Open.AUTO,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Write one self-contained HTML page: figures, tables and texts of runs, or the verdicts of a comparison.

    Exit code 1 when something could not be read; the page then says what.
    """
    from betahead.report.written import write_report

    found = write_report(paths, output)
    if json_output:
        facts = {"path": str(found.path), "bytes": found.size, "problems": list(found.problems)}
        typer.echo(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        for problem in found.problems:
            typer.echo(f"warning: {problem}", err=True)
        typer.echo(f"{found.path} ({found.size / 1e6:.1f} MB)")
    if open_ is Open.YES or (open_ is Open.AUTO and not json_output and _at_a_screen()):
        webbrowser.open(found.path.absolute().as_uri())
    if found.problems:
        raise typer.Exit(1)


def _at_a_screen() -> bool:
    """Whether a person sits at this terminal and has a window system: a browser in text would be in the way."""
    windows = sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    return windows and sys.stdout.isatty() and "CI" not in os.environ and "SSH_CONNECTION" not in os.environ
