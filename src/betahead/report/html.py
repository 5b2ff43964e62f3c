"""HTML in which whatever is not markup is text: the one place where strings of data, models and configs are escaped."""

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Controls have no glyph and HTML does not allow them; tab and line feed are text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_VOID = frozenset({"br", "input", "meta", "wbr"})
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


class Html(str):
    """Markup: the only strings that go into a page as they are."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]
"""What an element may hold: `Html` as markup, every other string as text, None as nothing."""


def printable(text: str) -> str:
    """The text with a replacement character for what no page can show: controls and lone surrogates."""
    return _CONTROLS.sub("�", text.replace("\r\n", "\n").replace("\r", "\n"))


def escaped(value: object) -> Html:
    """The value as text, in an element or an attribute."""
    return Html(html.escape(printable(str(value)), quote=True))


def joined(*children: Child) -> Html:
    """The children one after the other; strings that are not `Html` are escaped."""
    parts: list[str] = []
    for child in children:
        if isinstance(child, Html):
            parts.append(child)
        elif isinstance(child, str | int):
            parts.append(escaped(child))
        elif child is not None:
            parts.append(joined(*child))
    return Html("".join(parts))


def element(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element.

    Args:
        tag: its name.
        children: what it holds.
        attributes: by name; `class_` is class, `data_x` is data-x. True stands alone, False and None are left out. A
            link may only lead to a place in the page.
    """
    href = attributes.get("href")
    assert href is None or str(href).startswith("#"), f"a page must not lead elsewhere, but {href!r} does"
    words = [tag]
    for key, value in attributes.items():
        label = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(label)
        elif value is not False and value is not None:
            words.append(f'{label}="{escaped(value)}"')
    opening = f"<{' '.join(words)}>"
    return Html(opening if tag in _VOID else f"{opening}{joined(*children)}</{tag}>")


def data_block(value: Mapping[str, Any]) -> Html:
    """A script element that holds JSON and runs nothing; no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign, escape in _IN_SCRIPT.items():
        text = text.replace(sign, escape)
    return Html(f'<script type="application/json">{text}</script>')
