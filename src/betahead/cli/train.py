"""`betahead train`: a run from its configuration to its folder."""

from typing import Annotated

import typer


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a preset.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes: section.key=value …", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, run one batch of two pairs on the CPU, show the plan.")
    ] = False,
) -> None:
    """Fine-tune a policy on preference pairs with a fixed or a learned beta."""
    from rich.console import Console

    from betahead.runs.config import load_config
    from betahead.runs.dry import dry_run_of
    from betahead.runs.presets import config_path
    from betahead.runs.summary import summary_table
    from betahead.runs.training import train_run

    console = Console()
    loaded = load_config(config_path(config), overrides or [])
    if dry_run:
        dry_run_of(loaded, console)
        return
    finished = train_run(loaded, console)
    if not finished.summary:  # another rank has written it
        return
    console.print(summary_table(finished.summary, str(finished.folder.path)))
    run = finished.folder
    if run.training_prompts.is_file():  # a prompt has a beta of its own
        console.print(f'betahead inspect {run.path} --prompt "…" shows the beta of a prompt', highlight=False)
    else:
        console.print(f"betahead eval {run.path} shows the beta of held-out pairs", highlight=False)
