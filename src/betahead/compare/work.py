"""Work on a comparison until it is done: claim an item, run it, store it; first the pool, then the finals.

Every process that works on a comparison does the same, so none of them is needed for the others to go on.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from betahead.compare.board import Board
from betahead.compare.choice import Dev, chosen_of, dev_values
from betahead.compare.items import Item, final_items, pool_items, run_item
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.score import Scores, joined

CellMethod = tuple[str, str]

_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, eq=False, kw_only=True)
class Finished:
    """Everything that a finished comparison's storage holds.

    Args:
        resolved: the plan.
        test_opened: when.
        dev: the pools on dev, by cell and method.
        pools: their scores, configuration by configuration.
        chosen: by cell and method, then component: the configuration of each final.
        finals: by cell and method: the runs, and their scores in the same order.
        seconds: of all runs of a cell and method.
    """

    resolved: ResolvedPlan
    test_opened: str
    dev: Mapping[CellMethod, Dev]
    pools: Mapping[CellMethod, Scores]
    chosen: Mapping[CellMethod, Mapping[str, np.ndarray]]
    finals: Mapping[CellMethod, tuple[tuple[tuple[int, int], ...], Scores]]
    seconds: Mapping[CellMethod, float]


def work(board: Board, on_progress: Callable[[Board], None] | None = None) -> Finished:
    """Take part in the comparison until all of it is done, by whomever, and return what came out.

    Raises:
        ConfigError: an item failed too often.
    """

    def done(items: list[Item]) -> list[Scores]:
        _until_done(board, items, on_progress)
        return board.scores(items)

    return _through(board.resolved, done, board.open_test)


def worked_alone(resolved: ResolvedPlan) -> Finished:
    """The same without a storage: everything is run here and now, and nothing is kept."""
    return _through(resolved, lambda items: [run_item(resolved, item) for item in items], lambda: "not recorded")


def _through(
    resolved: ResolvedPlan, done: Callable[[list[Item]], list[Scores]], open_test: Callable[[], str]
) -> Finished:
    """The protocol: pool, selection on dev, the test opened, finals."""
    pool = pool_items(resolved)
    pools = _by_cell_and_method(pool, done(pool))
    dev = {key: dev_values(resolved, scores) for key, scores in pools.items()}
    chosen = {(cell, method): chosen_of(resolved, cell, of_dev) for (cell, method), of_dev in dev.items()}
    finals = [
        item
        for (cell, method), of_component in chosen.items()
        for item in final_items(resolved, cell, method, np.stack(list(of_component.values()), axis=1).tolist())
    ]
    opened = open_test()
    of_final = _by_cell_and_method(finals, done(finals))
    runs: dict[CellMethod, tuple[tuple[int, int], ...]] = {}
    for item in finals:
        key = (item.cell, item.method)
        runs[key] = (*runs.get(key, ()), *item.runs)
    return Finished(
        resolved=resolved,
        test_opened=opened,
        dev=dev,
        pools=pools,
        chosen=chosen,
        finals={key: (runs[key], of_final[key]) for key in runs},
        seconds={key: pools[key].seconds + of_final[key].seconds for key in runs},
    )


def _until_done(board: Board, items: list[Item], on_progress: Callable[[Board], None] | None) -> None:
    board.put_up(items)
    while True:
        while (claim := board.claim()) is not None:
            with board.beating(claim):
                scores = run_item(board.resolved, claim.item)
            board.finish(claim, scores)
            if on_progress is not None:
                on_progress(board)
        if board.finished(items):
            return
        board.bury_the_dead()
        board.put_up(items)
        if on_progress is not None:
            on_progress(board)
        time.sleep(_PAUSE_SECONDS)


def _by_cell_and_method(items: list[Item], done: list[Scores]) -> dict[CellMethod, Scores]:
    parts: dict[CellMethod, list[Scores]] = {}
    for item, scores in zip(items, done, strict=True):
        parts.setdefault((item.cell, item.method), []).append(scores)
    return {key: joined(some, range(sum(len(one.finite) for one in some))) for key, some in parts.items()}
