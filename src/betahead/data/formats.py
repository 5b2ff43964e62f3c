r"""The layouts that preference data comes in, and the one pair that each row of them becomes.

- `explicit`: prompt, chosen and rejected are text.
- `chat`: prompt is a list of messages, chosen and rejected are messages (or text); or there is no prompt and they are
  two whole conversations.
- `ultrafeedback`: prompt is text, chosen and rejected are whole conversations that begin with it.
- `hh`: chosen and rejected are whole transcripts, `\n\nHuman: …\n\nAssistant: …`.
- `tokenized`: prompt_ids, chosen_ids and rejected_ids are lists of token ids (read by `prepare_pairs`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from betahead.data.conversations import Message, last_answer, messages, split_conversations
from betahead.data.rows import Row, RowError, column, named, number, shown, text
from betahead.data.transcripts import is_transcript, split_transcripts
from betahead.errors import ConfigError, DataError
from betahead.types import PAIR_COLUMNS

Layout = Literal["explicit", "chat", "ultrafeedback", "hh", "tokenized"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

OF_TOKENS = (
    "ref_chosen_logps",
    "ref_rejected_logps",
    "ref_log_ppl",
    "ref_entropy",
    "ref_chosen_common_logps",
    "ref_rejected_common_logps",
)
"""Columns that belong to token ids: beside texts, whether they fit would depend on the tokenizer."""

UNREAD = ("tools", "images", "image", "chat_template_kwargs")
"""Columns that other trainers put into the prompt and this one does not: refused rather than silently left out."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt, the answer that was preferred and the answer that was not.

    Args:
        prompt: text, or messages for a chat template.
        chosen: the preferred answer.
        rejected: the other answer.
        domain: the source's label of the kind of prompt, "" if it has none.
        columns: what the source says of the pair in numbers, of `types.PAIR_COLUMNS`.
        where: file and line.
        transcript: the prompt's own text form, for tokenizers without a chat template; "" if the prompt has none.
    """

    prompt: tuple[Message, ...] | str
    chosen: str
    rejected: str
    domain: str = ""
    columns: Mapping[str, float] = field(default_factory=dict)
    where: str
    transcript: str = ""


def checked_layout(layout: str) -> Layout | None:
    """The layout a setting names, None for `auto`.

    Raises:
        ConfigError: an unknown name.
    """
    if layout == "auto":
        return None
    for known in LAYOUTS:
        if layout == known:
            return known
    names = ", ".join(f"`{name}`" for name in ("auto", *LAYOUTS))
    raise ConfigError(f"`data.layout` must be one of {names}, but is {layout!r} instead.")


def detected_layout(rows: Sequence[Row], source: str) -> Layout:
    """The layout of the first of these rows that shows one, by its columns and the types of their values.

    Raises:
        DataError: none of the rows has the columns of a layout.
    """
    for row in rows:
        layout = _layout_of(row)
        if layout is not None:
            return layout
    columns = _columns_of(rows)
    found = named(columns) or "no column"
    missing = [name for name in ("chosen", "rejected") if name not in columns]
    if missing:
        raise DataError(
            f"{source} must have the columns `chosen` and `rejected`, but has {found} instead; rename its columns "
            "(a `prompt` column holds the prompt, unless `chosen` and `rejected` are whole conversations)."
        )
    if "prompt" not in columns:
        raise DataError(
            f"{source} must have a column `prompt`, but has {found} instead, and `chosen` is neither a list of "
            "messages nor a transcript that begins with `Human:`; add the column."
        )
    raise DataError(
        f"{rows[0].where}: `prompt`, `chosen` and `rejected` must be text or lists of messages, but `prompt` is "
        f"{shown(rows[0].values.get('prompt'))} and `chosen` is {shown(rows[0].values.get('chosen'))} instead; "
        "see `data.layout` for what can be read."
    )


def check_columns(rows: Sequence[Row], layout: Layout, source: str) -> None:
    """Refuse a source at once in which no row has a column that its layout needs.

    Raises:
        DataError: naming the column and the columns there are.
    """
    needed = {
        "tokenized": ("prompt_ids", "chosen_ids", "rejected_ids"),
        "explicit": ("prompt", "chosen", "rejected"),
        "ultrafeedback": ("prompt", "chosen", "rejected"),
    }
    columns = _columns_of(rows)
    for name in UNREAD:
        if name in columns:
            raise DataError(
                f"{source} must hold text alone, but has a column `{name}`, which would be left out of the prompt; "
                "render it into the messages, or remove the column if the model may go without it."
            )
    scored = [name for name in OF_TOKENS if name in columns]
    if scored and layout != "tokenized":
        raise DataError(
            f"{source} must not have a column `{scored[0]}` beside texts, because it belongs to tokens; remove it, or "
            "give the tokens with it (`prompt_ids`, `chosen_ids`, `rejected_ids`)."
        )
    for name in needed.get(layout, ("chosen", "rejected")):
        if name not in columns:
            found = named(columns) or "no column"
            raise DataError(
                f"{source} must have a column `{name}` (layout `{layout}`), but has {found} instead; rename the column "
                "or choose another `data.layout`."
            )


def pair_from_row(row: Row, layout: Layout) -> Pair:
    """The pair that a row of this layout holds.

    Raises:
        RowError: whatever makes it unusable, with file, line and remedy.
    """
    pair = _READERS[layout](row)
    if not has_words(pair.prompt):
        raise RowError(
            "empty prompt", row.where, "`prompt` must have words, but is empty instead; fill it in or remove the row."
        )
    for name, answer in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not answer.strip():
            raise RowError(
                "empty answer",
                row.where,
                f"`{name}` must have words, but is empty instead; fill it in or remove the row.",
            )
    if pair.chosen == pair.rejected:
        raise RowError(
            "identical answers",
            row.where,
            f"`chosen` and `rejected` must differ, but both are {shown(pair.chosen)} instead; remove the row.",
        )
    return pair


def has_words(prompt: tuple[Message, ...] | str) -> bool:
    """False for a prompt of white space only."""
    if isinstance(prompt, str):
        return bool(prompt.strip())
    return any(message["content"].strip() for message in prompt if message["role"] != "system")


def _columns_of(rows: Sequence[Row]) -> list[str]:
    """The names of the columns in which some row has a value; rows of a list may have other keys than text."""
    return sorted({str(key) for row in rows for key, value in row.values.items() if value is not None})


def _layout_of(row: Row) -> Layout | None:
    values = row.values
    if all(values.get(name) is not None for name in ("prompt_ids", "chosen_ids", "rejected_ids")):
        return "tokenized"
    prompt, chosen, rejected = values.get("prompt"), values.get("chosen"), values.get("rejected")
    if chosen is None or rejected is None:
        return None
    layout: Layout | None = None
    if isinstance(prompt, list | tuple) or (prompt is None and isinstance(chosen, list | tuple)):
        layout = "chat"
    elif isinstance(prompt, str) and isinstance(chosen, list | tuple):
        layout = "ultrafeedback"
    elif isinstance(prompt, str) and isinstance(chosen, str):
        layout = "explicit"
    elif prompt is None and is_transcript(chosen):
        layout = "hh"
    return layout


def _explicit(row: Row) -> Pair:
    prompt, chosen, rejected = (text(column(row, name), name, row.where) for name in ("prompt", "chosen", "rejected"))
    return Pair(prompt=prompt, chosen=chosen, rejected=rejected, where=row.where, **_extras(row))


def _chat(row: Row) -> Pair:
    answers = {name: column(row, name) for name in ("chosen", "rejected")}
    if row.values.get("prompt") is None:
        chosen, rejected = (messages(value, name, row.where) for name, value in answers.items())
        prompt, *texts = split_conversations(chosen, rejected, row.where)
    else:
        prompt = tuple(messages(row.values["prompt"], "prompt", row.where))
        texts = [
            text(value, name, row.where)
            if isinstance(value, str)
            else last_answer(messages(value, name, row.where), name, row.where)
            for name, value in answers.items()
        ]
    if prompt and prompt[-1]["role"] == "assistant":
        raise RowError(
            "prompt ends with the assistant",
            row.where,
            "`prompt` must end with a message of the user, but its last message is of 'assistant' instead; an answer "
            "belongs into `chosen` and `rejected` whole.",
        )
    return Pair(prompt=prompt, chosen=texts[0], rejected=texts[1], where=row.where, **_extras(row))


def _ultrafeedback(row: Row) -> Pair:
    asked = text(column(row, "prompt"), "prompt", row.where)
    chosen, rejected = (messages(column(row, name), name, row.where) for name in ("chosen", "rejected"))
    prompt, *texts = split_conversations(chosen, rejected, row.where)
    users = [message["content"] for message in prompt if message["role"] == "user"]
    if not users:
        # Conversations of the answer alone: the prompt column is then the only place where the question stands.
        prompt = (*prompt, Message(role="user", content=asked))
    elif users[0].strip() != asked.strip():
        raise RowError(
            "prompt is not the first user message",
            row.where,
            f"`prompt` must be the first user message of `chosen`, but is {shown(asked)} instead of {shown(users[0])}; "
            "remove the `prompt` column if the conversations are complete.",
        )
    return Pair(prompt=prompt, chosen=texts[0], rejected=texts[1], where=row.where, **_extras(row))


def _hh(row: Row) -> Pair:
    chosen, rejected = (text(column(row, name), name, row.where) for name in ("chosen", "rejected"))
    split = split_transcripts(chosen, rejected, row.where)
    return Pair(
        prompt=tuple(Message(role=turn.role, content=turn.content.strip()) for turn in split.turns),
        chosen=split.chosen,
        rejected=split.rejected,
        where=row.where,
        transcript=split.prompt,
        **_extras(row),
    )


def _tokenized(row: Row) -> Pair:
    raise AssertionError(f"{row.where}: token ids are read by `prepare_pairs`, not turned into a pair of texts")


def _extras(row: Row) -> dict[str, Any]:
    domain = row.values.get("domain")
    return {
        "domain": "" if domain is None else text(domain, "domain", row.where),
        "columns": pair_columns(row),
    }


def pair_columns(row: Row) -> dict[str, float]:
    """The numbers that the row gives for rules, by name; those that it does not give are left out.

    Infinities and NaN pass: the rule that reads the column refuses them, see `train.scored.check_columns`.

    Raises:
        RowError: one that is no number.
    """
    found: dict[str, float] = {}
    for name in PAIR_COLUMNS:
        value = row.values.get(name)
        if value is not None and value != "":
            found[name] = number(value, name, row.where)
    return found


_READERS: dict[Layout, Callable[[Row], Pair]] = {
    "explicit": _explicit,
    "chat": _chat,
    "ultrafeedback": _ultrafeedback,
    "hh": _hh,
    "tokenized": _tokenized,
}
