"""Tables, notes and what opens on a click."""

from collections.abc import Sequence

from betahead.report.html import Html, element, joined


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str | Html]],
    *,
    numeric: Sequence[int] = (),
    texts: Sequence[int] = (),
) -> Html:
    """A table that scrolls inside its box.

    Args:
        heads: of the columns.
        rows: the first cell of a row names it.
        numeric: columns whose values stand to the right.
        texts: columns that wrap.
    """

    def kind(column: int) -> str | None:
        return "n" if column in numeric else "t" if column in texts else None

    return element(
        "div",
        element(
            "table",
            element(
                "thead",
                element("tr", (element("th", one, scope="col", class_=kind(at)) for at, one in enumerate(heads))),
            ),
            element(
                "tbody",
                (
                    element(
                        "tr",
                        element("th", row[0], scope="row"),
                        (element("td", cell, class_=kind(at)) for at, cell in enumerate(row[1:], 1)),
                    )
                    for row in rows
                ),
            ),
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=", ".join(heads[:3]),
    )


def sentences(kind: str, lines: Sequence[str]) -> Html | None:
    """Sentences in a box of their own, `note` or `warn`; None where there are none."""
    if not lines:
        return None
    if len(lines) == 1:
        return element("p", lines[0], class_=kind)
    return element("div", element("ul", (element("li", line) for line in lines)), class_=kind)


def choices(word: str, parts: Sequence[tuple[str, Html]]) -> Html:
    """Parts of which one is seen, that which the reader chose by its label here or in a figure.

    Args:
        word: what is chosen, such as `cell`.
        parts: with their labels.
    """
    if len(parts) == 1:
        return parts[0][1]
    bodies = (element("div", body, data_label=label) for label, body in parts)
    return element("div", *bodies, class_="choices", data_choice=word)


def details(title: str, *body: Html | None) -> Html:
    """What is there for who asks."""
    return element("details", element("summary", title), joined(*body), class_="more")
