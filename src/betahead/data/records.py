"""Rows to tokenized records, chunk by chunk, in this process or in several."""

import hashlib
import json
import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from betahead.data.formats import Layout, Pair, pair_from_row
from betahead.data.given_ids import record_from_ids
from betahead.data.rows import Row, RowError
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import TokenizedPair, TokenizeOptions, tokenize_pairs

_T = TypeVar("_T")
Record = dict[str, Any]

# Rows that are tokenized together: enough for a fast tokenizer's threads, few enough to keep the lists small.
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What became of one row: its record or why it has none, and what the summary counts of it."""

    outcome: Record | RowError
    where: str
    boundary: bool = False
    cut: bool = False
    reopened: bool = False


@dataclass(frozen=True)
class RowsToRecords:
    """Turns rows of one layout into records; an object, so that it can be sent to other processes."""

    layout: Layout
    renderer: PromptRenderer
    options: TokenizeOptions

    def __call__(self, rows: Sequence[Row]) -> list[RowResult]:
        """One result per row, in order."""
        if self.layout == "tokenized":
            tokenizer = self.renderer.tokenizer
            return [
                RowResult(
                    outcome=_or_error(lambda row=row: record_from_ids(row, tokenizer, self.options)), where=row.where
                )
                for row in rows
            ]
        pairs = [_or_error(lambda row=row: pair_from_row(row, self.layout)) for row in rows]
        usable = [pair for pair in pairs if isinstance(pair, Pair)]
        tokenized = iter(tokenize_pairs(usable, self.renderer, self.options))
        return [
            RowResult(outcome=pair, where=pair.where) if isinstance(pair, RowError) else _result(pair, next(tokenized))
            for pair in pairs
        ]


def in_chunks(work: RowsToRecords, rows: Iterator[Row], *, processes: int) -> Iterator[list[RowResult]]:
    """The results of all rows in order, a chunk at a time.

    Args:
        work: what is done with a chunk.
        rows: read here, whatever the number of processes.
        processes: 1 works in this process.
    """
    chunks = iter(lambda: list(islice(rows, _CHUNK)), [])
    if processes == 1:
        yield from map(work, chunks)
        return
    # Forked, as `datasets` does it: a spawned process would run the user's script once more.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(work,)) as pool:
        waiting: deque[Future[list[RowResult]]] = deque()
        for chunk in chunks:
            waiting.append(_submitted(pool, chunk))
            # A few chunks wait for a free process; more would only fill the memory.
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def prompt_id(pair: Pair) -> str:
    """Sixteen hex digits that are the same for the same prompt, whether it comes as text or as one user message."""
    prompt = [{"role": "user", "content": pair.prompt}] if isinstance(pair.prompt, str) else list(pair.prompt)
    return _digest(json.dumps(prompt, ensure_ascii=False, sort_keys=True))


def shown_prompt(pair: Pair) -> str:
    """The words of the prompt: its text, the one user message, or the conversation with its roles."""
    if isinstance(pair.prompt, str):
        return pair.prompt
    if len(pair.prompt) == 1:
        return pair.prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in pair.prompt)


def _digest(content: str) -> str:
    return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()


def _or_error(function: Callable[[], _T]) -> _T | RowError:
    try:
        return function()
    except RowError as error:
        return error


def _result(pair: Pair, tokenized: TokenizedPair | RowError) -> RowResult:
    if isinstance(tokenized, RowError):
        return RowResult(outcome=tokenized, where=pair.where)
    record = {
        "prompt_ids": tokenized.prompt_ids,
        "chosen_ids": tokenized.chosen_ids,
        "rejected_ids": tokenized.rejected_ids,
        "ppl_mask": tokenized.ppl_mask,
        "prompt": shown_prompt(pair),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "prompt_id": prompt_id(pair),
        "domain": pair.domain,
        **pair.columns,
    }
    return RowResult(
        outcome=record,
        where=pair.where,
        boundary=tokenized.boundary,
        cut=tokenized.cut,
        reopened=tokenized.reopened,
    )


_in_child: list[RowsToRecords] = []


def _begin(work: RowsToRecords) -> None:
    """Keep the work in the forked process, so that the tokenizer is not sent anew with every chunk."""
    # A forked child cannot use the threads that the tokenizer started in its parent.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _in_child[:] = [work]


def _submitted(pool: ProcessPoolExecutor, rows: Sequence[Row]) -> "Future[list[RowResult]]":
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads; these children only tokenize, without the parent's threads.
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        return pool.submit(_work_on, rows)


def _work_on(rows: Sequence[Row]) -> list[RowResult]:
    return _in_child[0](rows)
