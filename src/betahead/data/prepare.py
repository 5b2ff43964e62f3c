"""A source of preference pairs as a data set of token ids, with one summary of what was dropped and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import datasets
from transformers import PreTrainedTokenizerBase

from betahead.data.formats import Layout, check_columns, checked_layout, detected_layout
from betahead.data.records import Record, RowsToRecords, in_chunks
from betahead.data.rows import Row, RowError
from betahead.data.sources import Source, source_name, source_rows
from betahead.data.summary import DataSummary
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import TokenizeOptions
from betahead.errors import ConfigError
from betahead.types import PAIR_COLUMNS

# Rows that are looked at to find the layout.
_PEEKED = 256

_IDS = datasets.Sequence(datasets.Value("int32"))
_FEATURES = {
    "prompt_ids": _IDS,
    "chosen_ids": _IDS,
    "rejected_ids": _IDS,
    "ppl_mask": datasets.Sequence(datasets.Value("bool")),
    "prompt": datasets.Value("string"),
    "chosen": datasets.Value("string"),
    "rejected": datasets.Value("string"),
    "prompt_id": datasets.Value("string"),
    "domain": datasets.Value("string"),
}
_OPTIONAL = {
    "ref_chosen_logps": datasets.Value("float32"),
    "ref_rejected_logps": datasets.Value("float32"),
    "ref_log_ppl": datasets.Value("float32"),
    "ref_entropy": datasets.Value("float32"),
    "ref_chosen_common_logps": datasets.Value("float32"),
    "ref_rejected_common_logps": datasets.Value("float32"),
    **{name: datasets.Value("float64") for name in PAIR_COLUMNS},
}


@dataclass(frozen=True, kw_only=True)
class PreparedPairs:
    """Tokenized pairs and what became of the rows they were read from.

    Args:
        dataset: one row per pair with `prompt_ids`, `chosen_ids`, `rejected_ids`, `ppl_mask`, `prompt`, `chosen`,
            `rejected`, `prompt_id`, `domain`, and those of `types.PAIR_COLUMNS` that the source has.
        summary: counts of rows kept and dropped.
        places: where each row of the data set stands in the source, such as `pairs.jsonl:17`.
    """

    dataset: datasets.Dataset
    summary: DataSummary
    places: tuple[str, ...]


def prepare_pairs(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 1024,
    layout: str = "auto",
    prompt_template: str = "auto",
    ppl_tokens: str = "all",
    max_dropped: float = 0.1,
    split: str = "train",
    num_proc: int | None = None,
) -> PreparedPairs:
    """Read, check and tokenize preference pairs.

    Args:
        source: a file, a Hub name (`org/data` or `org/data:split`), a data set of `datasets`, or a list of dicts.
        tokenizer: with pad and eos token.
        max_length: the most tokens of prompt and answer; a longer answer is cut at its end, a longer prompt dropped.
        layout: `auto`, or one of `formats.LAYOUTS`.
        prompt_template: `auto` (the tokenizer's chat template if it has one) or `none` (texts as they are).
        ppl_tokens: `all` or `content`, see `TokenizeOptions`.
        max_dropped: the share of rows that may be dropped, from 0 to 1.
        split: the split to read of a source that has several.
        num_proc: processes that tokenize; None for this one (fast tokenizers use several threads by themselves).

    Raises:
        ConfigError: a setting out of its range.
        DataError: a source or tokenizer that cannot be used, or one of which more than `max_dropped` was dropped.
    """
    if not 0 <= max_dropped <= 1:
        raise ConfigError(f"`data.max_dropped` must be in [0, 1], but is {max_dropped} instead; it is a share of rows.")
    if num_proc is not None and num_proc < 1:
        raise ConfigError(f"`num_proc` must be at least 1, but is {num_proc} instead; leave it out for one process.")
    options = TokenizeOptions(max_length=max_length, ppl_tokens=ppl_tokens)
    renderer = PromptRenderer(tokenizer, prompt_template)
    found, rows = laid_out(source_rows(source, split), layout, source_name(source))
    summary = DataSummary(source=source_name(source), layout=found)
    work = RowsToRecords(found, renderer, options)
    parts: list[datasets.Dataset] = []
    errors: list[RowError] = []
    places: list[str] = []
    for results in in_chunks(work, rows, processes=num_proc or 1):
        records: list[Record] = []
        for result in results:
            summary.rows += 1
            if isinstance(result.outcome, RowError):
                summary.drop(result.outcome)
                errors = errors or [result.outcome]
                continue
            summary.kept += 1
            summary.boundary += result.boundary
            summary.cut += result.cut
            summary.reopened += result.reopened
            records.append(result.outcome)
            places.append(result.where)
        if records:
            parts.append(_part(records))
    summary.check(max_dropped, errors)
    whole = datasets.concatenate_datasets(parts)
    absent = [name for name in _OPTIONAL if whole.data.column(name).null_count == len(whole)]
    return PreparedPairs(dataset=whole.remove_columns(absent), summary=summary, places=tuple(places))


def laid_out(rows: Iterator[Row], layout: str, source: str) -> tuple[Layout, Iterator[Row]]:
    """The layout of these rows and the rows again, from the first.

    Raises:
        ConfigError: an unknown layout.
        DataError: rows in no known layout, or without a column that the layout needs.
    """
    given = checked_layout(layout)
    peeked = list(islice(rows, _PEEKED))
    found = given or detected_layout(peeked, source)
    check_columns(peeked, found, source)
    return found, chain(peeked, rows)


def _part(records: list[Record]) -> datasets.Dataset:
    # In memory and chunk by chunk: Python lists of ids take ten times the room of Arrow's.
    columns = {name: [record.get(name) for record in records] for name in (*_FEATURES, *_OPTIONAL)}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(_FEATURES | _OPTIONAL))
