"""HTML in which whatever is not markup is text, also to the templates that the page's components are filled through."""

import html
import re
from collections.abc import Iterable

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# To a template of JavaScript or Handlebars these begin a program.
_TEMPLATE = {ord(character): f"&#{ord(character)};" for character in "${}`"}


class Html(str):
    """Markup: the only strings that go into a page as they are."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]
"""What an element may hold: `Html` as markup, every other string as text, None as nothing."""


def escaped(value: object) -> Html:
    """The value as text, in an element or an attribute; what no page can show becomes a replacement character."""
    text = _CONTROLS.sub("�", str(value).replace("\r\n", "\n").replace("\r", "\n"))
    return Html(html.escape(text, quote=True).translate(_TEMPLATE))


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


def element(tag: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """An element.

    Args:
        tag: its name.
        children: what it holds.
        attributes: by name; `class_` is class, `data_x` is data-x; None is left out.
    """
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    words = [tag, *(f'{name}="{escaped(value)}"' for name, value in given)]
    return Html(f"<{' '.join(words)}>{joined(*children)}</{tag}>")


def told(kind: str, sentence: str) -> Html:
    """A sentence in a box of its own: a `note`, or a `mistake` in what was typed."""
    return element("p", sentence, class_=f"told {kind}", role="status")
