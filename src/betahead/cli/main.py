"""The command `betahead`: its verbs, and what a mistake looks like.

Nothing heavy is imported before a verb runs (each imports its own parts), so that `--help` answers at once.
"""

import sys
from typing import Annotated

import typer

from betahead import __version__
from betahead.cli.compare import compare
from betahead.cli.data import data
from betahead.cli.demo import demo
from betahead.cli.doctor import doctor
from betahead.cli.eval import evaluate_run
from betahead.cli.explore import explore
from betahead.cli.init import init
from betahead.cli.inspect import inspect_run
from betahead.cli.methods import methods
from betahead.cli.push import push
from betahead.cli.report import report
from betahead.cli.train import train
from betahead.errors import BetaHeadError
from betahead.runs.redaction import redacted

app = typer.Typer(
    name="betahead",
    help="Preference fine-tuning whose beta is learned per prompt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"betahead {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Options of the command itself."""


app.command("train")(train)
app.command("demo")(demo)
app.command("init")(init)
app.command("data")(data)
app.command("inspect")(inspect_run)
app.command("eval")(evaluate_run)
app.command("push")(push)
app.command("methods")(methods)
app.command("compare")(compare)
app.command("explore")(explore)
app.command("report")(report)
app.command("doctor")(doctor)


def main() -> None:
    """Run the command line: a user's mistake is one sentence and exit code 2, an interruption exit code 130."""
    try:
        app()
    except BetaHeadError as error:
        typer.echo(f"error: {redacted(str(error))}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
