"""The documentation as a site: it builds without a warning, says everything, and asks nothing of another host."""

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the site is built with the extra `docs`")

ROOT = Path(__file__).parents[2]
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
HARMLESS_LINKS = {"canonical", "prev", "next", "alternate"}


class Loads(HTMLParser):
    """What a browser loads to show a page, and the ids that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in LOADED and not HARMLESS_LINKS & set((found.get("rel") or "").split()):
            self.loaded.append(found.get(LOADED[tag]) or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_of_the_repository_is_on_the_site(site: Path) -> None:
    names = {path.relative_to(site).as_posix() for path in pages(site)}
    documents = {path.name.replace(".md", ".html") for path in (ROOT / "docs").glob("*.md")}
    assert documents | {"index.html", "index.zh-CN.html", "changelog.html", "examples.html", "api/rules.html"} <= names


def test_no_page_loads_anything_of_another_host(site: Path) -> None:
    outside: list[str] = []
    for path in pages(site):
        parser = Loads()
        parser.feed(path.read_text(encoding="utf-8"))
        outside += [f"{path.name}: {one}" for one in parser.loaded if re.match(r"(https?:)?//", one)]
    for path in site.rglob("*.css"):
        outside += re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8"))
    assert outside == []


def test_formulas_are_drawn_by_the_browser_itself(site: Path) -> None:
    theory = (site / "theory.html").read_text(encoding="utf-8")
    source = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    assert theory.count('<math display="block">') == source.count("```math")
    assert theory.count("<math") > 100
    parser = Loads()
    parser.feed(theory)
    shown = "".join(parser.text)
    assert "\\beta" not in shown and "\ue000" not in shown


def test_the_reference_shows_shapes_and_the_sources_of_rules(site: Path) -> None:
    losses = html.unescape(re.sub(r"<[^>]+>", "", (site / "api" / "losses.html").read_text(encoding="utf-8")))
    assert "preference_loss" in losses
    assert re.search(r'margin:\s*Float\[\s*Tensor,\s*" ?pairs"', losses), "shapes keep their quotes"
    assert "Rafailov et al. 2023" in losses


def test_files_that_pages_link_to_come_with_the_site(site: Path) -> None:
    assert (site / "repository" / "LICENSE").is_file()
    assert (site / "config.schema.json").is_file()
    assert (site / "beta.svg").is_file()


CHROMIUM = Path("/usr/bin/chromium")


def test_a_folder_opened_in_a_browser_is_whole_and_searches_without_another_host(site: Path) -> None:
    if not CHROMIUM.exists() and os.environ.get("BETAHEAD_BROWSER") != "required":
        pytest.skip(f"{CHROMIUM} does not exist; install Debian's package chromium to run the browser tests")
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto((site / "theory.html").as_uri())
        formula = page.locator("math[display=block]").first.bounding_box()
        page.keyboard.press("/")
        page.keyboard.type("perspective")
        found = page.locator(".md-search-result__item").first
        found.wait_for(timeout=60_000)
        browser.close()
    assert formula is not None and formula["height"] > 20
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert complaints == []
