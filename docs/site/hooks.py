"""From the repository's pages to the site's: pages outside of docs/, links, formulas, lists.

GitHub and the site show the same files. Here is what they read differently: the site has its pages under docs/ only,
draws no TeX, and wants nested lists indented by four spaces.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mathml import to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PAGES = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "bench/README.md": "bench.md",
    "examples/README.md": "examples.md",
}
"""Pages of the repository outside of docs/, and what they are called on the site."""

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)[^\n]*\n(?P<text>.*?)^ *```$\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<path>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
INLINE = re.compile(r"\$(?P<tex>[^$\n]+)\$")
MARK = re.compile("\ue000(?P<number>\\d+)\ue001")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of docs/, and the files that any page links to."""
    root = _root(config)
    for path, name in PAGES.items():
        files.append(File.generated(config, name, content=(root / path).read_text(encoding="utf-8")))
    origins = {name: path for path, name in PAGES.items()}
    linked = {
        target
        for file in files.documentation_pages()
        for target in _targets(file.content_string, _origin(file.src_uri, origins))
    }
    for target in sorted(linked):
        if not target.startswith("docs/") and target not in PAGES:
            if not (root / target).is_file():
                raise PluginError(f"A link must lead to a file, but leads to {target} instead.")
            files.append(File.generated(config, f"repository/{target}", abs_src_path=str(root / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn a page as GitHub shows it into one as the site does."""
    formulas: list[str] = []
    origin = _origin(page.file.src_uri, {name: path for path, name in PAGES.items()})

    def formula(tex: str, *, display: bool) -> str:
        formulas.append(to_mathml(tex.strip(), display=display))
        return f"\ue000{len(formulas) - 1}\ue001"

    def prose(text: str) -> str:
        parts = [
            part if is_code else INLINE.sub(lambda one: formula(one["tex"], display=False), part)
            for part, is_code in _split(CODE, text)
        ]
        linked = LINK.sub(lambda one: f"]({_on_site(one, origin, page.file.src_uri)})", "".join(parts))
        return re.sub(r"^ {2,3}(?=\S)", "    ", linked, flags=re.MULTILINE)

    done: list[str] = []
    for part, is_fence in _split(FENCE, markdown):
        match = FENCE.fullmatch(part) if is_fence else None
        if match is None:
            done.append(prose(part))
        elif match["kind"] == "math":
            indent = " " * 4 if match["indent"] else ""
            done.append(f"\n{indent}{formula(match['text'], display=True)}\n\n")
        else:
            done.append(part)
    page.meta["formulas"] = formulas
    return "".join(done)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the formulas where their marks stand: Markdown would have read their signs as its own."""
    formulas = page.meta.pop("formulas", [])
    return MARK.sub(lambda one: formulas[int(one["number"])], html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Say which pages are in Chinese, so that a browser takes the right letters."""
    return output.replace('<html lang="en"', '<html lang="zh-CN"', 1) if ".zh-CN" in page.file.src_uri else output


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the sources of the package be read, wherever the build is started from."""
    handlers: Any = config.plugins["mkdocstrings"].config["handlers"]
    handlers["python"]["paths"] = [str(_root(config) / "src")]
    return config


def _root(config: MkDocsConfig) -> Path:
    return Path(config.docs_dir).parent


def _origin(name: str, origins: dict[str, str]) -> str:
    """Where a page of the site lies in the repository."""
    return origins.get(name, f"docs/{name}")


def _split(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, with whether a piece matches."""
    place = 0
    for match in pattern.finditer(text):
        yield text[place : match.start()], False
        yield match[0], True
        place = match.end()
    yield text[place:], False


def _is_outward(path: str) -> bool:
    return path.startswith(("http://", "https://", "mailto:"))


def _targets(markdown: str, origin: str) -> Iterator[str]:
    """The files of the repository that a page links to, by their paths from its root."""
    for part, is_fence in _split(FENCE, markdown):
        for match in () if is_fence else LINK.finditer(part):
            if match["path"] and not _is_outward(match["path"]):
                yield normpath(str(PurePosixPath(origin).parent / match["path"]))


def _on_site(link: re.Match[str], origin: str, name: str) -> str:
    """A link of a page as the site has it."""
    path, anchor = link["path"], link["anchor"] or ""
    if not path or _is_outward(path):
        return path + anchor
    target = normpath(str(PurePosixPath(origin).parent / path))
    on_site = PAGES.get(target) or (target[5:] if target.startswith("docs/") else f"repository/{target}")
    return relpath(on_site, str(PurePosixPath(name).parent)) + anchor
