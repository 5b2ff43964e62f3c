"""What an endpoint takes of a question, learned from what it refuses.

OpenAI's protocol has split: reasoning models refuse `max_tokens` and want `max_completion_tokens`, and take no
temperature but their own; templates of some open models have no system role. None of this can be asked beforehand, but
a refusal names it, and a refused question costs nothing.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

Change = Literal["renamed limit", "own temperature", "no system role"]
Changes = frozenset[Change]

NAMED: Mapping[Change, re.Pattern[str]] = {
    "renamed limit": re.compile(r"\bmax_tokens\b"),
    "own temperature": re.compile(r"\btemperature\b", re.IGNORECASE),
    "no system role": re.compile(r"\bsystem\b.*\brole\b|\brole\b.*\bsystem\b", re.IGNORECASE | re.DOTALL),
}
"""What a refusal says where the change is the remedy."""

REFUSALS = frozenset({400, 422})
"""The statuses of a question that the endpoint does not take in this form."""


def changed(body: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """The question in the form that the endpoint takes.

    Args:
        body: as `Endpoint.body` has it; it stays what the reply is kept under, whatever the form.
        changes: that the endpoint wants.
    """
    found = dict(body)
    if "renamed limit" in changes and "max_tokens" in found:
        found["max_completion_tokens"] = found.pop("max_tokens")
    if "own temperature" in changes:
        found.pop("temperature", None)
    if "no system role" in changes:
        found["messages"] = _without_system(found.get("messages", []))
    return found


def wanted(status: int, words: str, changes: Changes) -> Changes:
    """The changes that a refusal asks for besides those that were made; empty where another form is no remedy.

    Args:
        status: of the refusal.
        words: of the refusal, the name of the parameter among them.
        changes: with which it was refused.
    """
    if status not in REFUSALS:
        return frozenset()
    return frozenset(change for change, name in NAMED.items() if change not in changes and name.search(words))


def _without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """The chat with the words of the system before those of the user."""
    said = [message["content"] for message in messages if message["role"] == "system"]
    rest = [message for message in messages if message["role"] != "system"]
    if not said or not rest:
        return messages
    return [{**rest[0], "content": "\n\n".join([*said, rest[0]["content"]])}, *rest[1:]]
