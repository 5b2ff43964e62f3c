"""`betahead push RUN --to NAME`: a run's policy on the Hugging Face Hub, with its model card."""

from pathlib import Path
from typing import Annotated

import typer


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    to: Annotated[str, typer.Option(help="Repository on the Hub: OWNER/NAME.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch.", show_default="the repository's own")] = None,
) -> None:
    """Upload a run's policy, its model card and its beta head; log in with `hf auth login` before."""
    from betahead.runs.folder import RunFolder
    from betahead.runs.quiet import quieted
    from betahead.runs.upload import upload_policy

    folder = RunFolder.open(run)
    with quieted():
        address = upload_policy(folder, to, private=private, revision=revision)
    typer.echo(address)
