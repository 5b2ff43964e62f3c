"""Rows that are tokenized already: their ids are checked and used as they are."""

import hashlib
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from betahead.data.formats import OF_TOKENS, pair_columns
from betahead.data.rows import Row, RowError, column, number, shown, text
from betahead.data.tokenize import TokenizeOptions
from betahead.errors import DataError


def record_from_ids(row: Row, tokenizer: PreTrainedTokenizerBase, options: TokenizeOptions) -> dict[str, Any]:
    """The record of a row with `prompt_ids`, `chosen_ids` and `rejected_ids`.

    Texts, `ppl_mask` and `prompt_id` are taken from the row where it has them, else made from the ids. Nothing is cut:
    reference log-probabilities that come with the row would no longer be those of its answers.

    Raises:
        RowError: ids that are empty, out of the vocabulary, identical or longer than `max_length`.
        DataError: `ppl_tokens` is `content`, which ids alone cannot tell.
    """
    ids = {name: _ids(row, name, len(tokenizer)) for name in ("prompt_ids", "chosen_ids", "rejected_ids")}
    if ids["chosen_ids"] == ids["rejected_ids"]:
        raise RowError(
            "identical answers",
            row.where,
            "`chosen_ids` and `rejected_ids` must differ, but have the same tokens; remove the row.",
        )
    longest = len(ids["prompt_ids"]) + max(len(ids["chosen_ids"]), len(ids["rejected_ids"]))
    if longest > options.max_length:
        raise RowError(
            "longer than max_length",
            row.where,
            f"prompt and answer must have at most `data.max_length` = {options.max_length} tokens, but have {longest} "
            "instead, and given ids are not cut; raise `data.max_length` or shorten them.",
        )
    record: dict[str, Any] = {**ids, "ppl_mask": _ppl_mask(row, len(ids["prompt_ids"]), options.ppl_tokens)}
    for name in ("prompt", "chosen", "rejected"):
        given = row.values.get(name)
        decoded = tokenizer.decode(ids[f"{name}_ids"], skip_special_tokens=True)
        record[name] = text(given, name, row.where) if isinstance(given, str) else decoded
    record["prompt_id"] = _prompt_id(row, ids["prompt_ids"])
    domain = row.values.get("domain")
    record["domain"] = "" if domain is None else text(domain, "domain", row.where)
    record |= pair_columns(row)
    scores = {name: row.values[name] for name in OF_TOKENS if row.values.get(name) is not None}
    return record | {name: number(value, name, row.where) for name, value in scores.items()}


def _ids(row: Row, name: str, vocabulary: int) -> list[int]:
    value = column(row, name)
    given = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    numbers = [number for number in given if isinstance(number, int) and not isinstance(number, bool)]
    if len(numbers) < len(given) or not isinstance(value, list | tuple):
        raise RowError(
            f"`{name}` is not a list of ids",
            row.where,
            f"`{name}` must be a list of token ids, but is {shown(value)} instead; leave it out to have texts "
            "tokenized.",
        )
    if not numbers:
        raise RowError(
            "empty prompt" if name == "prompt_ids" else "empty answer",
            row.where,
            f"`{name}` must have tokens, but is empty instead; fill it in or remove the row.",
        )
    outside = next((number for number in numbers if not 0 <= number < vocabulary), None)
    if outside is not None:
        raise RowError(
            "ids of another tokenizer",
            row.where,
            f"`{name}` must hold ids below {vocabulary}, the size of the tokenizer's vocabulary, but holds {outside} "
            "instead; tokenize with the model's own tokenizer.",
        )
    return numbers


def _ppl_mask(row: Row, length: int, ppl_tokens: str) -> list[bool]:
    given = row.values.get("ppl_mask")
    if given is None:
        if ppl_tokens == "content":
            raise DataError(
                f"{row.where}: `ppl_tokens: content` must know which tokens are the template's, but rows of token ids "
                "do not say; add a column `ppl_mask` or use `ppl_tokens: all`."
            )
        return [False] + [True] * (length - 1)
    mask = [bool(item) for item in given] if isinstance(given, list | tuple) else []
    if len(mask) != length or mask[0]:
        raise RowError(
            "`ppl_mask` does not fit",
            row.where,
            f"`ppl_mask` must have one entry for each of the {length} prompt tokens and false for the first, which has "
            f"no predecessor, but is {shown(given)} instead; leave it out to count all others.",
        )
    return mask


def _prompt_id(row: Row, ids: list[int]) -> str:
    given = row.values.get("prompt_id")
    if given is not None:
        return text(str(given), "prompt_id", row.where)
    return hashlib.blake2b(repr(ids).encode(), digest_size=8).hexdigest()
