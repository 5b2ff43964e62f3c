"""`betahead init`: a preset as a file of one's own."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    preset: Annotated[str | None, typer.Argument(help="Name of the preset; see --list.", show_default=False)] = None,
    path: Annotated[
        Path | None, typer.Argument(help="File to write, or a folder for PRESET.yaml.", show_default="PRESET.yaml")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show the presets and what each is for.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of a configuration, for editors.")
    ] = False,
) -> None:
    """Write a preset, a complete and commented configuration, to a file."""
    from betahead.errors import ConfigError
    from betahead.runs.presets import preset_names, preset_summary, write_preset

    if schema:
        if preset is not None or show:
            given = "--list" if preset is None else preset
            raise ConfigError(f"{given} must be left out with --schema, but is given; it would have no effect.")
        from betahead.runs.config_schema import published_schema

        typer.echo(published_schema(), nl=False)
        return
    if show:
        width = max(len(name) for name in preset_names())
        for name in preset_names():
            typer.echo(f"{name:<{width}}  {preset_summary(name)}")
        return
    if preset is None:
        raise ConfigError("PRESET must be given, but is missing; `betahead init --list` shows them.")
    written = write_preset(preset, Path(f"{preset}.yaml") if path is None else path, force=force)
    typer.echo(f"{written} written; change it, then run: betahead train {written}")
