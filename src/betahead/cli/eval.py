"""`betahead eval RUN`: held-out pairs under the policy, how far it moved, and what a judge says of its answers."""

import json
import math
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from betahead.errors import ConfigError

if TYPE_CHECKING:
    from betahead.evaluate.judge_cost import Outlay
    from betahead.evaluate.judge_model import ModelJudge
    from betahead.runs.judging import JudgeChoice

_JUDGED = "Judging"


def evaluate_run(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(
            help="Pairs the run has not seen: a file or a Hub name.", show_default="the pairs the run held out"
        ),
    ] = None,
    layout: Annotated[str, typer.Option(help="Layout of --data: auto, explicit, chat, ultrafeedback, hh.")] = "auto",
    split: Annotated[str, typer.Option(help="Which split of --data, if it has several.")] = "train",
    kl_prompts: Annotated[
        int, typer.Option(min=0, help="Prompts that the policy answers for its KL; 0 for none.")
    ] = 32,
    kl_samples: Annotated[int, typer.Option(min=1, help="Answers to each of them.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of these answers at most.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals, the chosen prompts and the answers.")] = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pairs a pass.", show_default="the run's")] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who compares answers of policy and reference: gold, reward:PATH or openai:BASE_URL.",
            rich_help_panel=_JUDGED,
        ),
    ] = None,
    judge_prompts: Annotated[
        int | None,
        typer.Option(min=1, help="Prompts that both answer once.", show_default="100", rich_help_panel=_JUDGED),
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option(help="Name of the model behind openai:.", rich_help_panel=_JUDGED)
    ] = None,
    judge_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable that holds the endpoint's key.", rich_help_panel=_JUDGED),
    ] = None,
    judge_cache: Annotated[
        Path | None,
        typer.Option(
            help="SQLite file that keeps replies.", show_default="RUN/judgements.sqlite", rich_help_panel=_JUDGED
        ),
    ] = None,
    judge_workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Questions at a time.", show_default="8", rich_help_panel=_JUDGED),
    ] = None,
    judge_timeout: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds for one reply.", show_default="120", rich_help_panel=_JUDGED),
    ] = None,
    judge_max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens of one reply, thoughts included; 4096 or more for a model that thinks.",
            show_default="512",
            rich_help_panel=_JUDGED,
        ),
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(min=0, help="Price of a million tokens asked.", rich_help_panel=_JUDGED)
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(min=0, help="Price of a million tokens replied.", rich_help_panel=_JUDGED)
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Ask the endpoint without waiting for a confirmation.", rich_help_panel=_JUDGED),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    save: Annotated[
        bool,
        typer.Option("--save", help="Also write eval.json into the run's folder, and the policy's model card anew."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also open a run that has no file DONE.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let a run that asks for it run the code of its model.")
    ] = False,
) -> None:
    """Score held-out pairs, the KL to the reference and, with --judge, the win rate over it, all with intervals."""
    # Imported here, so that `betahead --help` does not wait for torch.
    from betahead.cli.eval_tables import print_evaluation
    from betahead.data.sources import source_rows
    from betahead.evaluate.judge_cost import price_of
    from betahead.runs.atomic import plain
    from betahead.runs.evaluation import EvalRequest, evaluation_of
    from betahead.runs.model_card import write_card
    from betahead.runs.opened import open_run
    from betahead.runs.quiet import quieted

    prices = _prices(price_in, price_out, judge)
    if yes and not (judge or "").startswith("openai:"):
        raise ConfigError("`--yes` must come with `--judge openai:…`, but does not; remove it.")
    chosen = _judge_choice(
        judge,
        {
            "prompts": judge_prompts,
            "model": judge_model,
            "key_env": judge_key_env,
            "cache": judge_cache,
            "workers": judge_workers,
            "timeout": judge_timeout,
            "max_tokens": judge_max_tokens,
        },
    )
    if data is not None:
        with quieted():
            next(source_rows(data, split))  # What is wrong with the file is said before models are loaded.
    opened = open_run(run, device=device, unfinished=unfinished, trust_remote_code=trust_remote_code)
    request = EvalRequest(
        data=data,
        layout=layout,
        split=split,
        kl_prompts=kl_prompts,
        kl_samples=kl_samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch_size=batch_size,
        judge=chosen,
    )

    def approve(asked: "ModelJudge", outlay: "Outlay") -> None:
        _approve(asked, outlay, prices, yes)

    with quieted(), _bars() as progress:
        evaluation = evaluation_of(opened, request, approve=approve, progress=progress)
    found = evaluation.found
    cost = found["win_rate"] and found["win_rate"]["cost"]
    if cost:
        cost["price"] = None if prices is None else price_of(cost, prices)
    if save:
        opened.folder.write_json("eval.json", found)
        write_card(opened.folder)
    if json_output:
        typer.echo(json.dumps(plain(found), ensure_ascii=False, indent=2))
    else:
        print_evaluation(found, "" if evaluation.rows is None else evaluation.rows.line())


def _judge_choice(judge: str | None, options: dict[str, Any]) -> "JudgeChoice | None":
    from betahead.runs.judging import JudgeChoice

    given = {name: value for name, value in options.items() if value is not None}
    if judge is None:
        for name, value in given.items():
            option = "--judge-" + name.replace("_", "-")
            raise ConfigError(f"`{option}` must come with --judge, but is {str(value)!r} without it; add --judge.")
        return None
    return JudgeChoice(judge=judge, **given)


def _prices(price_in: float | None, price_out: float | None, judge: str | None) -> tuple[float, float] | None:
    """The prices of a million tokens in and out, if they are given."""
    given = [price for price in (price_in, price_out) if price is not None]
    if not given:
        return None
    if judge is None or not judge.startswith("openai:"):
        raise ConfigError("`--price-in` and `--price-out` must come with `--judge openai:…`, but do not; remove them.")
    if len(given) == 1:
        raise ConfigError("`--price-in` and `--price-out` must be given together, but one is missing; add it.")
    if not all(map(math.isfinite, given)):
        raise ConfigError("`--price-in` and `--price-out` must be finite, but are not.")
    return given[0], given[1]


def _approve(judge: "ModelJudge", outlay: "Outlay", prices: tuple[float, float] | None, yes: bool) -> None:
    """Say what the judge will be asked and what that costs, and go on only if that is wanted."""
    if outlay.requests == 0:
        typer.echo(f"{judge.name}: all {outlay.kept:,} replies are kept from before", err=True)
        return
    price = "its price is unknown without --price-in and --price-out"
    if prices is not None:
        price = f"at most {outlay.price(prices):.4g} at the given prices"
    kept = f" ({outlay.kept:,} more are kept from before)" if outlay.kept else ""
    typer.echo(
        f"{judge.name}: {outlay.requests:,} requests{kept}, about {outlay.tokens_in:,} tokens in and at most "
        f"{outlay.tokens_out:,} out; {price}",
        err=True,
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(
            "`--yes` must be given where nobody can be asked whether to go on, but is not; add it, or run the command "
            "in a terminal."
        )
    # Not `typer.confirm`, which also with `err` writes a part of its question to stdout, where the numbers go.
    typer.echo("Go on? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise typer.Abort


@contextmanager
def _bars() -> Generator[Callable[[str, int], Callable[[int], None]]]:
    """Progress bars on a terminal's stderr; stdout is for the numbers."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    shown: list[Progress] = []

    def begin(title: str, count: int) -> Callable[[int], None]:
        # A bar begins with its work: one that was there before would be drawn over a question.
        for bar in shown:
            bar.stop()
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        bar.start()
        shown[:] = [bar]
        task = bar.add_task(title, total=count)
        return lambda done: bar.advance(task, done)

    try:
        yield begin
    finally:
        for bar in shown:
            bar.stop()
