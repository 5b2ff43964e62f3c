"""The pages of `betahead report` in a real browser: drawn, readable, and harmless."""

import csv
import io
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from report_pages import column, comparison, figures_of

from betahead.report.written import write_report

KINDS = ("run", "runs", "comparison")
MARKS = """
[...document.querySelectorAll('figure.figure')].map(place => ({
  name: place.id,
  marks: place.querySelectorAll('.plot .point, .plot .js-line, .plot .js-fill').length,
  empty: [...place.querySelectorAll('.plot .point, .plot .js-line')].every(one => {
    const box = one.getBoundingClientRect(); return box.width + box.height === 0;
  }),
}))
"""
OUTSIDE = """
[...document.querySelectorAll('figure.figure')].flatMap(place => {
  const room = place.querySelector('.plot').getBoundingClientRect();
  return [...place.querySelectorAll('.plot text')].map(text => [text, text.getBoundingClientRect()])
    .filter(([, box]) => box.width && (box.left < room.left - 1 || box.right > room.right + 1
      || box.top < room.top - 1 || box.bottom > room.bottom + 1))
    .map(([text]) => `${place.id}: ${text.textContent}`);
})
"""
ATTACK = """() => {
  const script = document.createElement('script');
  script.textContent = 'window.hacked = 1';
  const image = new Image();
  image.src = 'https://evil.example/x.png';
  document.body.append(script, image);
  fetch('https://evil.example/').catch(() => {});
  document.body.insertAdjacentHTML('beforeend', '<p id="p" onclick="window.hacked = 2">x</p>');
  document.getElementById('p').click();
}"""


def figures_in(path):
    return {figure["name"]: figure for figure in figures_of(path.read_text(encoding="utf-8"))}


def check_drawn(found, path, width, scheme):
    figures = found.page.evaluate(MARKS)
    assert {one["name"] for one in figures} == figures_in(path).keys() and len(figures) > 5
    assert [one["name"] for one in figures if one["marks"] == 0 or one["empty"]] == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.page.evaluate("document.documentElement.dataset.theme") == scheme
    assert found.quiet, found


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_drawn_at_a_desk(kind, pages, desk):
    check_drawn(desk(kind), pages[kind], 1440, "light")


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_drawn_on_a_phone_and_nothing_is_wider_than_it(kind, pages, opened):
    check_drawn(opened(pages[kind], 360, scheme="dark"), pages[kind], 360, "dark")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_a_figure_lies_inside_it(kind, width, pages, opened):
    page = opened(pages[kind], width).page
    assert page.evaluate("document.querySelectorAll('.plot text').length") > 50
    assert page.evaluate(OUTSIDE) == []


@pytest.fixture
def renamed(tmp_path, tmp_path_factory):
    """The page of a comparison, as it would be had one of its methods another name."""

    def write(name):
        folder = comparison(tmp_path_factory.getbasetemp())
        evidence = folder.joinpath("evidence.json").read_text(encoding="utf-8")
        (tmp_path / "evidence.json").write_text(evidence.replace("joint_plus", name), encoding="utf-8")
        return write_report([tmp_path]).path

    return write


@pytest.mark.parametrize("width", [360, 700, 1440])
def test_names_of_methods_that_have_no_room_are_shortened_in_the_middle(width, renamed, opened):
    found = opened(renamed("joint_of_long_name<&>" * 4), width)
    assert found.page.evaluate(OUTSIDE) == []
    names = found.page.locator("#effects .plot text", has_text="…").all_text_contents()
    assert len(names) >= 2 and any(name.endswith("− fixed") for name in names)
    assert not any(re.search(r"&\w|;", name) for name in names)
    assert found.quiet


def test_a_figure_that_becomes_narrow_is_drawn_as_on_a_phone(pages, opened):
    page = opened(pages["comparison"], 1440).page
    assert page.locator("#effects .plot .annotation").count() == 0
    page.set_viewport_size({"width": 360, "height": 900})
    page.locator("#effects .plot .annotation").first.wait_for()
    page.wait_for_function(f"{OUTSIDE.strip()}.length === 0")


def test_the_theme_can_be_changed_and_the_figures_follow(desk):
    page = desk("run").page
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.evaluate(ink)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("button.theme")
    page.wait_for_function(f"{ink} !== '{light}'")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    page.click("button.theme")
    page.wait_for_function(f"{ink} === '{light}'")


def test_pointing_at_a_dot_shows_its_prompt_as_text(pages, desk):
    page = desk("run").page
    figure = page.locator("#beta-log-ppl-1")
    figure.scroll_into_view_if_needed()
    texts = set()
    for dot in figure.locator(".plot .point").all()[::3]:
        box = dot.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        label = figure.locator(".hoverlayer .hovertext")
        label.first.wait_for()
        texts.add(label.first.text_content())
        assert figure.locator(".hoverlayer a").count() == 0
    prompts = set(column(figures_in(pages["run"])["beta-log-ppl-1"], "prompt"))
    assert any(prompt in text for prompt in prompts for text in texts)
    assert any("<" in text for text in texts)
    assert all("log PPL" in text and "β" in text for text in texts)
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_its_numbers_behind_its_data_link(kind, pages, desk):
    page = desk(kind).page
    for name, figure in figures_in(pages[kind]).items():
        place = page.locator(f"[id='{name}']")
        place.locator("details.data > summary").click()
        place.locator("a.csv").wait_for()
        rows = len(column(figure, next(iter(figure["columns"]))))
        assert place.locator("details.data tbody tr").count() == min(rows, 400)
        heads = place.locator("details.data thead th").all_text_contents()
        assert heads == list(figure["heads"].values())
        address = place.locator("a.csv").get_attribute("href")
        table = list(csv.reader(io.StringIO(unquote(address.partition(",")[2]))))
        assert table[0] == heads and len(table) == rows + 1
    assert desk(kind).quiet


def test_a_csv_is_saved_and_holds_no_formula(desk):
    page = desk("run").page
    page.locator("#beta-log-ppl-1 details.data").evaluate("one => { one.open = true; }")
    link = page.locator("#beta-log-ppl-1 a.csv")
    with page.expect_download() as saved:
        link.click()
    assert saved.value.suggested_filename == "beta-log-ppl-1.csv"
    with Path(saved.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = {row["prompt"] for row in rows}
    assert not any(prompt.startswith(("=", "+", "-", "@")) for prompt in prompts)
    assert any(prompt.startswith("'=HYPERLINK") for prompt in prompts)
    assert all(float(row["β"]) > 0 for row in rows)


@pytest.mark.parametrize("kind", ["run", "runs"])
def test_prompts_that_are_programs_stay_text(kind, pages, desk):
    page = desk(kind).page
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('main img, main iframe, main object, main form').length") == 0
    links = page.evaluate("[...document.querySelectorAll('a')].map(one => one.getAttribute('href'))")
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    assert page.evaluate("document.querySelectorAll('svg a').length") == 0
    assert page.evaluate("document.scripts.length") == 3 + len(figures_in(pages[kind]))
    assert "onerror=" in page.locator("main").inner_text()
    names = page.locator("#beta-log-ppl-1 .chip").all_text_contents()
    assert any("<img src=x" in name for name in names)


def test_the_browser_refuses_scripts_and_requests_that_are_not_those_of_the_page(pages, opened):
    found = opened(pages["run"])
    found.page.evaluate(ATTACK)
    found.page.wait_for_timeout(300)
    assert found.page.evaluate("window.hacked") is None
    assert found.reached == []
    assert len([one for one in found.complaints if "Content Security Policy" in one]) >= 4


def test_choosing_a_cell_in_one_place_chooses_it_in_all(desk):
    page = desk("comparison").page
    page.locator("#best-of-n select").select_option(label="tabular/rare_noise")
    for name in ("effects", "reward-kl", "calibration-nll"):
        chosen = page.locator(f"#{name} select").evaluate("one => one.selectedOptions[0].text")
        assert chosen == "tabular/rare_noise"
    tables = page.locator("#kl .choices > div[data-label]")
    assert [(one.get_attribute("data-label"), one.is_visible()) for one in tables.all()] == [
        ("tabular/half_noise", False),
        ("tabular/rare_noise", True),
    ]
    page.locator("#kl .choices select").select_option(label="tabular/half_noise")
    assert page.locator("#effects select").input_value() == "tabular/half_noise"


def test_a_name_in_the_legend_switches_its_marks(desk):
    page = desk("comparison").page
    chip = page.locator("#best-of-n .chip", has_text="oracle")
    count = "document.querySelectorAll('#best-of-n .plot .point').length"
    before = page.evaluate(count)
    chip.click()
    page.wait_for_function(f"{count} < {before}")
    assert chip.get_attribute("aria-pressed") == "false"
    page.locator("#best-of-n .more-names summary").click()
    placebo = page.locator("#best-of-n .chip", has_text="permuted:joint_plus")
    assert placebo.get_attribute("aria-pressed") == "false"
    placebo.click()
    page.wait_for_function(f"{count} === {before}")


def test_the_page_of_an_empty_folder_opens_without_complaint(tmp_path, opened):
    found = opened(write_report([tmp_path]).path, 360)
    assert "This folder holds no run." in found.page.locator("body").inner_text()
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert found.quiet
