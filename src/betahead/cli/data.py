"""`betahead data FILE`: what a preference data set holds, and what training would drop of it."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from betahead.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from betahead.data.describe import DataDescription


def data(
    file: Annotated[str, typer.Argument(help="A file, a Hub name (org/data or org/data:split) or a saved data set.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder or Hub name of a tokenizer: count tokens instead of words.")
    ] = None,
    layout: Annotated[str, typer.Option(help="auto, explicit, chat, ultrafeedback, hh or tokenized.")] = "auto",
    max_length: Annotated[
        int | None,
        typer.Option(min=2, help="Drop and cut as training at this length would (needs --tokenizer)."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which split to read of a data set that has several.")] = "train",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Describe preference data: rows kept and dropped, lengths, duplicates, leaks, the gain of prefix sharing."""
    # Imported here, so that `betahead --help` does not wait for transformers.
    from betahead.data.describe import describe

    loaded = None if tokenizer is None else _loaded_tokenizer(tokenizer)
    description = describe(file, loaded, layout=layout, max_length=max_length, split=split)
    if json_output:
        typer.echo(json.dumps(description.to_dict(), ensure_ascii=False, indent=2))
    else:
        _print(description)


def _loaded_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    from betahead.data.saved import first_line
    from betahead.train.safe_loading import refusal

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # whatever a broken folder makes the libraries say
        detail = first_line(error)
        raise refusal(name, error) or DataError(
            f"`--tokenizer` must be a tokenizer's folder or Hub name, but {name!r} cannot be loaded ({detail})."
        ) from None


def _print(description: "DataDescription") -> None:
    summary = description.summary
    typer.echo(f"{summary.source}: {summary.kept:,} of {summary.rows:,} rows can be used (layout `{summary.layout}`)")
    for reason, rows in summary.dropped.items():
        typer.echo(f"  dropped {rows.count:,}: {reason} ({rows.places()})")
    for count, what in ((summary.cut, "answers cut"), (summary.boundary, "answers tokenized by themselves")):
        if count:
            typer.echo(f"  {count:,} {'pair' if count == 1 else 'pairs'} with {what}")
    table = Table(title=f"length in {description.unit}", title_justify="left")
    table.add_column("")
    for heading in ("mean", *description.lengths["prompt"].quantiles):
        table.add_column(heading, justify="right")
    for part, lengths in description.lengths.items():
        table.add_row(part, *(f"{number:,.0f}" for number in (lengths.mean, *lengths.quantiles.values())))
    Console().print(table)
    for line in _lines(description):
        typer.echo(line)


def _lines(description: "DataDescription") -> list[str]:
    pairs = description.summary.kept
    lines = [
        f"longer answer wins   {description.longer_wins:.1%} of pairs (same length: {description.same_length:.1%})",
        f"duplicates           {description.repeated_pairs:,} pairs repeat an earlier one, "
        f"{description.contradictions:,} are contradicted by their reverse",
        f"prompts              {description.distinct_prompts:,} distinct in {pairs:,} pairs, "
        f"{description.repeated_prompts:,} have more than one pair",
        f"leak of a row split  {description.leaked:.1%} of held-out rows would have a prompt that is trained on "
        "(5 % held out at random; BetaHead splits by prompt)",
        f"prefix sharing       sends {description.sharing_gain:.2f} times fewer {description.unit} through the model",
    ]
    if description.domains:
        shown = ", ".join(f"{name} {count:,}" for name, count in list(description.domains.items())[:8])
        lines.append(f"domains              {shown}{', …' * (len(description.domains) > 8)}")
    return lines
