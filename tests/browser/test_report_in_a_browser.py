"""The pages of `betahead report` in a real browser: drawn, readable, and harmless."""

import csv
import io
from pathlib import Path
from urllib.parse import unquote

import pytest
from report_pages import column, figures_of

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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_is_drawn_and_nothing_is_wider_than_the_screen(kind, width, scheme, pages, opened):
    found = opened(pages[kind], width, scheme=scheme)
    figures = found.page.evaluate(MARKS)
    assert len(figures) == len(figures_of(pages[kind].read_text(encoding="utf-8"))) > 5
    assert [one["name"] for one in figures if one["marks"] == 0 or one["empty"]] == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.page.evaluate("document.documentElement.dataset.theme") == scheme
    assert (found.complaints, found.requests) == ([], [])


def test_the_theme_can_be_changed_and_the_figures_follow(pages, opened):
    found = opened(pages["run"])
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    before, paper = found.page.evaluate(ink), found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    found.page.click("button.theme")
    found.page.wait_for_function(f"{ink} !== '{before}'")
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") != paper
    assert found.complaints == []


def test_pointing_at_a_dot_shows_its_prompt_as_text(pages, opened):
    found = opened(pages["run"])
    figure = found.page.locator("#beta-log-ppl-1")
    figure.scroll_into_view_if_needed()
    texts = set()
    for dot in figure.locator(".plot .point").all()[:40]:
        box = dot.bounding_box()
        found.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        label = figure.locator(".hoverlayer .hovertext")
        label.first.wait_for()
        texts.add(label.first.text_content())
        assert figure.locator(".hoverlayer a").count() == 0
    prompts = column(
        next(one for one in figures_of(pages["run"].read_text()) if one["name"] == "beta-log-ppl-1"), "prompt"
    )
    plain = [prompt for prompt in set(prompts) if prompt.startswith(("What", "Tell", "Where", "Why"))]
    assert any(prompt in text for prompt in plain for text in texts)
    assert all("log PPL" in text and "β" in text for text in texts)
    assert found.page.evaluate("window.hacked") is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_has_its_numbers_behind_its_data_link(kind, pages, opened):
    found = opened(pages[kind])
    for figure in figures_of(pages[kind].read_text(encoding="utf-8")):
        place = found.page.locator(f"[id='{figure['name']}']")
        place.locator("details.data > summary").click()
        rows = len(column(figure, next(iter(figure["columns"]))))
        assert place.locator("details.data tbody tr").count() == min(rows, 400)
        heads = place.locator("details.data thead th").all_text_contents()
        assert heads == list(figure["heads"].values())
        address = place.locator("a.csv").get_attribute("href")
        table = list(csv.reader(io.StringIO(unquote(address.partition(",")[2]))))
        assert table[0] == heads and len(table) == rows + 1
    assert (found.complaints, found.requests) == ([], [])


def test_a_csv_is_saved_and_holds_no_formula(pages, opened):
    found = opened(pages["run"])
    place = found.page.locator("#beta-log-ppl-1")
    place.locator("details.data > summary").click()
    with found.page.expect_download() as saved:
        place.locator("a.csv").click()
    assert saved.value.suggested_filename == "beta-log-ppl-1.csv"
    with Path(saved.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = {row["prompt"] for row in rows}
    assert not any(prompt.startswith(("=", "+", "-", "@")) for prompt in prompts)
    assert any(prompt.startswith("'=HYPERLINK") for prompt in prompts)
    assert all(float(row["β"]) > 0 for row in rows)


@pytest.mark.parametrize("kind", ["run", "runs"])
def test_prompts_that_are_programs_stay_text(kind, pages, opened):
    found = opened(pages[kind])
    page = found.page
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.querySelectorAll('main img, main iframe, main object, main form').length") == 0
    links = page.evaluate("[...document.querySelectorAll('a')].map(one => one.getAttribute('href'))")
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    assert page.evaluate("document.querySelectorAll('svg a').length") == 0
    assert page.evaluate("document.scripts.length") == 3 + len(figures_of(pages[kind].read_text(encoding="utf-8")))
    assert "onerror=" in page.locator("main").inner_text()
    names = page.locator("#beta-log-ppl-1 .chip").all_text_contents()
    assert any("<img src=x" in name for name in names)


def test_the_browser_refuses_scripts_and_requests_that_are_not_the_page_s_own(pages, opened):
    found = opened(pages["run"])
    found.page.evaluate("""() => {
      const script = document.createElement('script');
      script.textContent = 'window.hacked = 1'; document.body.append(script);
      const image = new Image(); image.src = 'https://evil.example/x.png'; document.body.append(image);
      fetch('https://evil.example/').catch(() => {});
      document.body.insertAdjacentHTML('beforeend', '<p id="p" onclick="window.hacked = 2">x</p>');
      document.getElementById('p').click();
    }""")
    found.page.wait_for_timeout(300)
    assert found.page.evaluate("window.hacked") is None
    assert found.requests == []
    assert len([one for one in found.complaints if "Content Security Policy" in one]) >= 4


def test_choosing_a_cell_in_one_figure_chooses_it_in_all(pages, opened):
    found = opened(pages["comparison"])
    found.page.locator("#best-of-n select").select_option(label="tabular/rare_noise")
    for name in ("effects", "reward-kl", "calibration-nll"):
        chosen = found.page.locator(f"#{name} select").evaluate("one => one.selectedOptions[0].text")
        assert chosen == "tabular/rare_noise"
    assert found.complaints == []


def test_a_name_in_the_legend_switches_its_marks(pages, opened):
    found = opened(pages["comparison"])
    chip = found.page.locator("#best-of-n .chip", has_text="oracle")
    count = "document.querySelectorAll('#best-of-n .plot .point').length"
    before = found.page.evaluate(count)
    chip.click()
    found.page.wait_for_function(f"{count} < {before}")
    assert chip.get_attribute("aria-pressed") == "false"
    placebo = found.page.locator("#best-of-n .chip", has_text="permuted:joint_plus")
    assert placebo.get_attribute("aria-pressed") == "false"
    placebo.click()
    found.page.wait_for_function(f"{count} === {before}")


def test_an_empty_folder_s_page_opens_without_complaint(tmp_path, opened):
    from betahead.report.written import write_report

    found = opened(write_report([tmp_path]).path, 360)
    assert "This folder holds no run." in found.page.locator("body").inner_text()
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (found.complaints, found.requests) == ([], [])
