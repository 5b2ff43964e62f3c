"""The page around the sections: title, key numbers, navigation, style, scripts, and what a browser may do with it."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from betahead.report.html import Html, element

MOST_BYTES = 8_000_000
"""A page is never larger: mail and code hosts still show it."""

_EARLY = 'document.documentElement.dataset.theme=matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light";'

# Plotly brings the style of its maps along, unless an element of this name is there already. No figure is a map.
_STYLES_OF_MAPS = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page that the navigation names."""

    name: str
    title: str
    body: Html


@dataclass(frozen=True, kw_only=True)
class KeyNumber:
    """A number of the header: what it is, its value, and what belongs to it."""

    label: str
    value: str
    detail: str = ""


def page(
    *, kind: str, title: str, lead: str, keys: Sequence[KeyNumber], sections: Sequence[Section], footer: str
) -> str:
    """The document as HTML; it loads nothing, sends nothing and runs no script but the two that are written here.

    Args:
        kind: what the page is of, above the title.
        title: of document and page.
        lead: one or two sentences below it.
        keys: numbers of the header.
        sections: in their order.
        footer: the last line.
    """
    source = files("betahead.report")
    style = source.joinpath("page.css").read_text(encoding="utf-8")
    script = "\n".join(source.joinpath(name).read_text(encoding="utf-8") for name in ("page_texts.js", "page.js"))
    plotly = files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")
    scripts = [_EARLY, _inline(plotly), _inline(script)]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(style, scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="generator", content="betahead report"),
        element("title", f"{title} · BetaHead"),
        Html(f"<style>{style}</style><script>{scripts[0]}</script>"),
        (element("style", id=found) for found in _STYLES_OF_MAPS.findall(plotly)),
    )
    body = element(
        "body",
        element(
            "div",
            element(
                "div",
                element(
                    "div",
                    element("p", kind, class_="eyebrow"),
                    element("button", "☾ Dark", class_="theme", type="button"),
                    class_="mast-row",
                ),
                element("h1", title),
                element("p", lead, class_="lead") if lead else None,
                element("noscript", element("p", "The figures and their numbers need JavaScript.", class_="warn")),
                _key_numbers(keys),
            ),
            class_="mast",
        ),
        element(
            "nav",
            element("ul", (element("li", element("a", one.title, href=f"#{one.name}")) for one in sections)),
            aria_label="Sections",
        ),
        element(
            "main",
            (element("section", element("h2", one.title), one.body, id=one.name) for one in sections),
            element("footer", footer),
        ),
        Html(f"<script>{scripts[1]}</script><script>{scripts[2]}</script>"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _key_numbers(keys: Sequence[KeyNumber]) -> Html | None:
    if not keys:
        return None
    return element(
        "dl",
        (
            element(
                "div",
                element("dt", one.label),
                element("dd", one.value, element("small", one.detail) if one.detail else None),
            )
            for one in keys
        ),
        class_="keys",
    )


def _inline(script: str) -> str:
    """A script as it may stand in an element: no string in it ends the element or begins another."""
    return (
        script.strip().replace("</script", "<\\/script").replace("<script", "\\x3cscript").replace("<!--", "\\x3c!--")
    )


def _policy(style: str, scripts: Sequence[str]) -> str:
    """What the browser may do: no network, no frame, no form, no script and no style but those of the page.

    Plotly makes an empty style element, fills it by rule, and sets style attributes; none of that can run or load.
    """
    hashes = " ".join(_digest(script) for script in scripts)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes}",
            f"style-src {_digest(style)} {_digest('')}",
            "style-src-attr 'unsafe-inline'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
