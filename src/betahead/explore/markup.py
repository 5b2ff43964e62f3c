"""The page's HTML on its way through the components that show it."""

from betahead.report.html import Html, element

# To a template of JavaScript or Handlebars these begin a program.
_PROGRAMS = {ord(character): f"&#{ord(character)};" for character in "${}`"}


def filled(html: Html) -> str:
    """The HTML with nothing in it that a component would run as a template, and the same to a reader.

    Args:
        html: elements, texts and attributes; no script and no style element, in which character references are letters.
    """
    return html.translate(_PROGRAMS)


def told(kind: str, sentence: str) -> Html:
    """A sentence in a box of its own: a `note`, or a `mistake` in what was typed."""
    return element("p", sentence, class_=f"told {kind}", role="status")
