"""`betahead train`: a run from its configuration to its folder."""

from typing import Annotated

import typer

from betahead.errors import ConfigError


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a preset.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes: section.key=value …", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, run one batch of two pairs on the CPU, show the plan.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole checkpoint in `output`, or begin if none is.")
    ] = False,
) -> None:
    """Fine-tune a policy on preference pairs with a fixed or a learned beta.

    SIGTERM and Ctrl-C save after the step that is being taken, and end with exit code 0; a second one ends at once.
    """
    from rich.console import Console

    from betahead.runs.config import load_config
    from betahead.runs.dry import dry_run_of
    from betahead.runs.launched import how_to_go_on
    from betahead.runs.other_ranks import console_of_rank
    from betahead.runs.presets import config_path
    from betahead.runs.summary import summary_table
    from betahead.runs.training import train_run
    from betahead.train.stopping import StopOnSignal, Stopped

    console = console_of_rank(Console())
    loaded = load_config(config_path(config), overrides or [])
    if dry_run and resume:
        raise ConfigError(
            "`--resume` must be left out with `--dry-run`, which builds a run from its beginning; drop one."
        )
    if dry_run:
        dry_run_of(loaded, console)
        return
    going_on = how_to_go_on()
    with StopOnSignal() as stop:
        try:
            finished = train_run(loaded, console, resume=resume, stop=stop)
        except Stopped:
            if stop.saved_at is None:
                console.print(f"stopped    at once; {going_on} goes on", markup=False, highlight=False, soft_wrap=True)
                raise typer.Exit(130) from None
            line = f"stopped    after step {stop.saved_at:,}, which has a checkpoint; {going_on} goes on"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
    if not finished.summary:  # another rank has written it
        return
    console.print(summary_table(finished.summary, str(finished.folder.path)))
    run = finished.folder
    if run.training_prompts.is_file():  # a prompt has a beta of its own
        console.print(f'betahead inspect {run.path} --prompt "…" shows the beta of a prompt', highlight=False)
    else:
        console.print(f"betahead eval {run.path} shows the beta of held-out pairs", highlight=False)
