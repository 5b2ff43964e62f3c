"""Prompts without answers, from the command line or a file, as token ids that the training would have made of them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from betahead.data.files import file_rows
from betahead.data.formats import Layout, Pair, pair_from_row
from betahead.data.paths import expanded
from betahead.data.records import shown_prompt
from betahead.data.rows import Row, RowError, column
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import TokenizeOptions, tokenize_pairs
from betahead.data.transcripts import is_transcript
from betahead.errors import DataError

# A prompt's features come from its own tokens, which no answer can touch; any two make it a pair.
_ANSWERS = {"chosen": " 0", "rejected": " 1"}


def prompts_of(path: str) -> list[Row]:
    """The prompts of a file: column `prompt` of a data file (text or messages), or the lines of a `.txt`.

    Raises:
        DataError: for a file that cannot be read or a row without a prompt.
    """
    name = expanded(path)
    if not name.lower().endswith(".txt") or not Path(name).is_file():
        return list(file_rows(Path(name), name))  # It also says what is wrong with a folder or a missing file.
    try:
        lines = Path(name).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{name} must be a readable UTF-8 text, but is not ({error}); convert it or name another."
        ) from None
    rows = [Row(values={"prompt": line}, where=f"{name}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{name} must hold a prompt a line, but is empty instead; write one into it.")
    return rows


def prompt_records(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    layout: str = "auto",
    prompt_template: str = "auto",
    ppl_tokens: str = "all",
) -> list[dict[str, Any]]:
    """The prompts as token ids, rendered as those of training were; arguments as in `prepare_pairs`.

    With `layout` `hh` a text is a transcript up to `Assistant:`, or becomes one of a single turn.

    Raises:
        DataError: for a prompt that is empty, not text or messages, refused by the chat template, or too long.
    """
    renderer = PromptRenderer(tokenizer, prompt_template)
    pairs = [_as_pair(row, layout) for row in rows]
    options = TokenizeOptions(max_length=sys.maxsize, ppl_tokens=ppl_tokens)
    records: list[dict[str, Any]] = []
    for pair, made in zip(pairs, tokenize_pairs(pairs, renderer, options), strict=True):
        if isinstance(made, RowError):
            raise made
        if len(made.prompt_ids) >= max_length:
            raise DataError(
                f"{pair.where}: the prompt must be shorter than the run's `data.max_length` of {max_length} tokens, "
                f"but has {len(made.prompt_ids)} instead; shorten it."
            )
        ids = {name: getattr(made, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids", "ppl_mask")}
        records.append({**ids, "prompt": shown_prompt(pair), "where": pair.where})
    return records


def _as_pair(row: Row, layout: str) -> Pair:
    prompt = column(row, "prompt")
    found: Layout = "explicit" if isinstance(prompt, str) else "chat"
    values: dict[str, Any] = {"prompt": prompt, **_ANSWERS}
    if layout == "hh" and isinstance(prompt, str) and prompt.strip():
        opened = prompt.rstrip() if is_transcript(prompt) else f"\n\nHuman: {prompt.strip()}\n\nAssistant:"
        found, values = "hh", {name: opened + answer for name, answer in _ANSWERS.items()}
    return pair_from_row(Row(values=values, where=row.where), found)
