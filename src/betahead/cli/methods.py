"""`betahead methods`: every rule, way of learning, loss and modifier, and what is to be known of one of them."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from betahead.runs.methods import Method

_WIDTH = 160
_COLUMNS = ("name", "method", "reads", "needs", "costs beyond DPO", "source")


def methods(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One of them, with everything.", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the methods: what each reads, needs and costs, and its source; with NAME its formula and settings."""
    from betahead.runs.methods import method_named
    from betahead.runs.methods import methods as all_methods

    if name is None:
        found = all_methods()
        if json_output:
            typer.echo(json.dumps([method.to_dict() for method in found], ensure_ascii=False, indent=2))
        else:
            _print_tables(found)
        return
    method = method_named(name)
    if json_output:
        typer.echo(json.dumps(method.to_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(_lines(method)))


def _print_tables(found: "list[Method]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from betahead.runs.methods import GROUPS

    console = Console()
    if not console.is_terminal:  # A file or a pipe gets whole lines instead of rich's 80 columns.
        console = Console(width=_WIDTH)
    for group, title in GROUPS.items():
        rows = [method for method in found if method.group == group]
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in _COLUMNS:
            table.add_column(column, overflow="fold")
        for method in rows:
            source = method.source.replace("https://", "")
            values = (method.name, method.title, method.reads, method.needs or "–", method.cost, source)
            table.add_row(*(Text(value) for value in values))
        if rows:
            console.print(table)
    console.print("betahead methods NAME shows formula, defaults and how to say it", highlight=False)


def _lines(method: "Method") -> list[str]:
    lines = [f"{method.name}: {method.title}", ""]
    lines += [f"    {line}" for line in method.formula.splitlines()]
    lines.append("")
    facts = {
        "reads": method.reads,
        "needs": method.needs or "nothing beyond the log-probabilities of policy and reference",
        "costs": method.cost,
        "defaults": ", ".join(f"{key} {json.dumps(value)}" for key, value in method.defaults.items()),
        "source": method.source + (f" (read: {method.checked})" if method.checked else ""),
        "deviates": method.deviates or "in nothing",
        "refused": "; ".join(method.refuses),
        "code": method.where,
    }
    lines += [f"{label:<9} {text}" for label, text in facts.items() if text]
    for label, text in (("YAML", method.yaml), ("Python", method.python)):
        if text:
            lines += ["", f"{label}:", *(f"    {line}".rstrip() for line in text.rstrip().splitlines())]
    return lines
