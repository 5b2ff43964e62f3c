"""`betahead explore RUN`: a local page on which a prompt is typed and its beta, causes and answers are seen."""

from pathlib import Path
from typing import Annotated

import typer


def explore(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page on 127.0.0.1; 0 for any that is free.")
    ] = 7860,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also open a run that has no file DONE.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let a run that asks for it run the code of its model.")
    ] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Type prompts on a local page: see log PPL, f and beta move, and both models answer."""
    # Imported here, so that `betahead --help` does not wait for torch.
    from betahead.explore.app import Page, blocks_of, check_gradio
    from betahead.explore.explorer import Explorer
    from betahead.explore.serve import listening, serve
    from betahead.runs.opened import open_run

    check_gradio()  # What is missing is said before models are loaded, and so is a port that is taken.
    with listening(port) as place:
        page = Page(Explorer(open_run(run, device=device, unfinished=unfinished, trust_remote_code=trust_remote_code)))
        blocks = blocks_of(page)
        address = f"http://127.0.0.1:{place.getsockname()[1]}/"
        typer.echo(f"{address}   (Ctrl-C ends it)")
        if open_browser:
            typer.launch(address)
        serve(blocks, place)
