"""The documents that a small reference is fitted on, and the prompts it must not see."""

from collections.abc import Iterator
from pathlib import Path

import datasets

from betahead.data.formats import Pair, pair_from_row
from betahead.data.paths import expanded
from betahead.data.prepare import laid_out
from betahead.data.records import prompt_id, shown_prompt
from betahead.data.rows import RowError, column, text
from betahead.data.sources import source_name, source_rows
from betahead.data.splits import split_by_prompt
from betahead.data.texts import is_plain_text, paragraphs
from betahead.errors import DataError
from betahead.runs.config import DataSection
from betahead.runs.model_section import SmallFit
from betahead.worlds.small_model import Document


def usable_pairs(source: str, split: str, layout: str) -> Iterator[Pair]:
    """The pairs of a source as text; rows that cannot be used are left to the count that tokenizing makes."""
    found, rows = laid_out(source_rows(source, split), layout, source_name(source))
    for row in rows:
        try:
            yield pair_from_row(row, found)
        except RowError:
            continue


def held_out_prompts(data: DataSection, seed: int) -> dict[str, str]:
    """Id and words of every prompt that is kept for evaluation, before anything is tokenized.

    Raises:
        DataError: for data that cannot be read or split.
    """
    if data.eval is not None:
        return {prompt_id(pair): shown_prompt(pair) for pair in usable_pairs(data.eval, data.split, data.layout)}
    words = {prompt_id(pair): shown_prompt(pair) for pair in usable_pairs(data.train, data.split, data.layout)}
    if not words:
        raise DataError(f"`data.train` must hold usable pairs, but {data.train} has none; run `betahead data` on it.")
    assert data.holdout is not None
    _, held_out = split_by_prompt(datasets.Dataset.from_dict({"prompt_id": list(words)}), data.holdout, seed)
    return {found: words[found] for found in held_out["prompt_id"]}


def fit_documents(fit: SmallFit, data: DataSection, held_out: dict[str, str]) -> list[Document]:
    """The documents of `model.fit`, without those of held-out prompts.

    Raises:
        DataError: for a corpus that cannot be read, a row without the named fields, or nothing left to fit on.
    """
    if fit.corpus == "train":
        documents: list[Document] = [
            (shown_prompt(pair), answer)
            for pair in usable_pairs(data.train, data.split, data.layout)
            if prompt_id(pair) not in held_out
            for answer in (pair.chosen, pair.rejected)
        ]
    else:
        unseen = set() if fit.corpus_prompts == "all" else {words.strip() for words in held_out.values()}
        documents = [
            document
            for document in _file_documents(fit)
            if isinstance(document, str) or document[0].strip() not in unseen
        ]
    if not documents:
        raise DataError(f"`model.fit.corpus` must hold texts of training prompts, but {fit.corpus} has none.")
    return documents


def _file_documents(fit: SmallFit) -> Iterator[Document]:
    if is_plain_text(fit.corpus):
        yield from paragraphs(Path(expanded(fit.corpus)))
        return
    assert fit.response_field is not None
    for row in source_rows(fit.corpus):
        response = text(column(row, fit.response_field), fit.response_field, row.where)
        if fit.prompt_field is None:
            yield response
        else:
            yield text(column(row, fit.prompt_field), fit.prompt_field, row.where), response
