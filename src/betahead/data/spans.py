"""Where the words of the messages stand in a rendered prompt, found by the template's own text between them."""

import re
from collections.abc import Sequence

_PROBED = re.compile(r"QzPROBExKQ([0-9]{1,9})\.")


def probe(number: int) -> str:
    """Text that stands for a content while a template's own text is looked up: letters that no template trims."""
    return f"QzPROBExKQ{number}."


def content_spans(rendered: str, contents: Sequence[str], skeleton: str) -> tuple[tuple[int, int], ...] | None:
    """The character spans of the contents in `rendered`, None if they cannot be found.

    Searching for a content alone would find the word "user" in the template's own `<|im_start|>user`. The skeleton,
    the same conversation rendered with probes for contents, gives the literal text between them instead.

    Args:
        rendered: the prompt as the template wrote it.
        contents: the messages' contents, in order.
        skeleton: the same roles rendered with the contents `probe(0)`, `probe(1)`, …

    Returns:
        spans in the order in which the template writes them; a template that leaves a message out has fewer.
    """
    literals = _PROBED.split(skeleton)
    # split gives text, number, text, number, …, text
    texts, numbers = literals[::2], [int(number) for number in literals[1::2]]
    if not rendered.startswith(texts[0]):
        return None
    position = len(texts[0])
    spans: list[tuple[int, int]] = []
    for number, following in zip(numbers, texts[1:], strict=True):
        if number >= len(contents):
            return None
        content = _as_written(contents[number], rendered, position, following)
        if content is None:
            return None
        spans.append((position, position + len(content)))
        position += len(content) + len(following)
    return tuple(spans) if position == len(rendered) else None


def _as_written(content: str, rendered: str, position: int, following: str) -> str | None:
    """The form in which a template wrote this content: as it is, trimmed, or without its thoughts."""
    answer = content.rpartition("</think>")[2]
    for form in (content, content.strip(), answer, answer.strip(), answer.lstrip("\n")):
        if rendered.startswith(form + following, position):
            return form
    return None
