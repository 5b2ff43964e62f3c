"""Conversations as lists of messages: checked, and split into a shared prompt and two answers."""

from collections.abc import Mapping
from typing import Any, TypedDict

from betahead.data.rows import RowError, cut, shown, text


class Message(TypedDict):
    """One message as chat templates read it."""

    role: str
    content: str


def messages(value: Any, name: str, where: str) -> list[Message]:
    """The messages of a column, each with a role and a text.

    Raises:
        RowError: not a list of mappings with a textual `role` and `content`.
    """
    remedy = 'write it as [{"role": "user", "content": "…"}, …]'
    if not isinstance(value, list | tuple):
        raise RowError(
            f"`{name}` is not a list of messages",
            where,
            f"`{name}` must be a list of messages, but is {shown(value)} instead; {remedy}.",
        )
    checked: list[Message] = []
    for number, item in enumerate(value):
        place = f"{name}[{number}]"
        if not isinstance(item, Mapping) or item.get("role") is None or item.get("content") is None:
            raise RowError(
                f"`{name}` is not a list of messages",
                where,
                f"`{place}` must have `role` and `content`, but is {shown(item)} instead; {remedy}.",
            )
        # Named without the number, so that rows with the same fault are counted together.
        checked.append(Message(role=text(item["role"], name, where), content=text(item["content"], name, where)))
    return checked


def split_conversations(
    chosen: list[Message], rejected: list[Message], where: str
) -> tuple[tuple[Message, ...], str, str]:
    """The messages that two whole conversations share, and the two last assistant messages.

    Raises:
        RowError: conversations that part earlier than at their last message, or that do not end with the assistant.
    """
    agreed = 0
    while agreed < min(len(chosen), len(rejected)) - 1 and chosen[agreed] == rejected[agreed]:
        agreed += 1
    answers = (
        last_answer(chosen[agreed:], "chosen", where),
        last_answer(rejected[agreed:], "rejected", where),
    )
    return tuple(chosen[:agreed]), *answers


def last_answer(tail: list[Message], name: str, where: str) -> str:
    """The text of the one assistant message that `tail` must consist of.

    Raises:
        RowError: another number of messages, or another role.
    """
    if len(tail) > 1:
        raise RowError(
            "answers to different prompts",
            where,
            f"`{name}` must be one assistant message after what both conversations share, but is {len(tail)} messages "
            "instead; only a pair of answers to the same prompt can be used, so remove the row.",
        )
    if not tail or tail[0]["role"] != "assistant":
        found = repr(cut(tail[0]["role"])) if tail else "nothing"
        raise RowError(
            f"`{name}` does not end with the assistant",
            where,
            f"`{name}` must end with a message of the assistant, but its last message is of {found} instead; "
            "remove what follows the answer.",
        )
    return tail[0]["content"]
