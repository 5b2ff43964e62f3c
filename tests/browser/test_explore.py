"""The page of `betahead explore` in a real browser: its numbers follow the prompt, and nothing leaves the machine."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import typer
from typer.testing import CliRunner

from betahead.cli.inspect import inspect_run

PATIENCE = 60_000  # milliseconds: the machine may be busy
PROMPT = "What is rain?"
HOSTILE = [
    "<img src=x onerror=window.hacked=1>",
    "<script>window.hacked=2</script>",
    "${window.hacked=3}",
    "{{window.hacked=4}}",
    "<svg onload=window.hacked=5>",
]


@dataclass
class Seen:
    """A page in the browser.

    Args:
        page: of Playwright.
        complaints: errors and warnings of its console.
        elsewhere: requests for anything but the page's own server.
        posted: prompts that were sent to have their numbers.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)

    def number(self, name: str) -> float:
        """The number of that name on its card."""
        card = self.page.locator("#numbers dl > div", has_text=name)
        return float(card.locator("dd").first.get_attribute("data-value"))

    def type(self, prompt: str) -> None:
        """Write a prompt into the box, in place of what was there, and wait for its numbers."""
        self.page.fill("#prompt textarea", prompt)
        cell = self.page.locator("#history tbody tr:first-child td.words")
        cell.get_by_text(prompt, exact=True).wait_for(timeout=PATIENCE)

    @property
    def quiet(self) -> bool:
        return not (self.complaints or self.elsewhere)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explore")
    return tiny_run.finished_run(folder, "evaluate={prompts: 64, samples: 1, max_new_tokens: 12}").path


@pytest.fixture(scope="module")
def address(browser: Any, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Of a server that the command started on a free port; interrupted, it must end in order and say nothing more."""
    complaints = tmp_path_factory.mktemp("server") / "stderr"
    command = [sys.executable, "-m", "betahead", "explore", str(run), "--port", "0", "--device", "cpu"]
    with (
        complaints.open("w") as stderr,
        subprocess.Popen(command, cwd=complaints.parent, stdout=subprocess.PIPE, stderr=stderr, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.match(r"(http://127\.0\.0\.1:\d+/)   \(Ctrl-C ends it\)\n", line)
            assert found, (line, complaints.read_text())
            yield found[1]
            server.send_signal(signal.SIGINT)
            rest, _ = server.communicate(timeout=120)
        finally:
            server.kill()
    assert (server.returncode, rest, complaints.read_text()) == (0, "", "")
    assert [path.name for path in complaints.parent.iterdir()] == ["stderr"], "nothing is left where it was started"


@pytest.fixture
def seen(browser: Any, address: str) -> Generator[Any]:
    """Opens the page at a width."""
    contexts: list[Any] = []

    def open_(width: int = 1440, scheme: str = "light") -> Seen:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        found = Seen(page=context.new_page())

        def asked(request: Any) -> None:
            if not request.url.startswith((address, "data:", f"blob:{address}")):
                found.elsewhere.append(request.url)
            if request.method == "POST" and request.url.endswith("/queue/join?"):
                found.posted.append(json.loads(request.post_data)["data"][0])

        def said(line: Any) -> None:
            if line.type in ("error", "warning"):
                found.complaints.append(line.text)

        context.on("request", asked)
        found.page.on("console", said)
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.goto(address)
        found.page.locator("#numbers .told", has_text="Type a prompt").wait_for(timeout=PATIENCE)
        return found

    yield open_
    for context in contexts:
        context.close()


def inspected(run: Path, *prompts: str) -> list[dict[str, Any]]:
    """What `betahead inspect --json` says of the prompts."""
    app = typer.Typer()
    app.command()(inspect_run)
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    done = CliRunner().invoke(app, [str(run), *words, "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["prompts"]


def test_the_numbers_are_those_of_inspect_and_beta_moves_with_every_edit(run: Path, seen: Any) -> None:
    found = seen()
    edits = [PROMPT, f"{PROMPT} Why?", "Tell me of tax law."]
    wanted = inspected(run, *edits)
    for prompt, view in zip(edits, wanted, strict=True):
        found.type(prompt)
        assert found.number("log PPL") == pytest.approx(view["log_ppl"], rel=1e-4)
        assert found.number("f(x)") == pytest.approx(view["f"], rel=1e-4)
        assert found.number("β(x)") == pytest.approx(view["beta"], rel=1e-4)
        text = found.page.inner_text("#numbers")
        assert f"{view['beta_training_quantile']:.0%} have a smaller β. Of the 13 held-out prompts" in text
        assert f"{view['beta_quantile']:.0%} have a smaller β." in text
    kept = [float(one.get_attribute("data-value")) for one in found.page.locator("#history td[data-value]").all()]
    assert kept == pytest.approx([view["beta"] for view in reversed(wanted)], rel=1e-4)
    assert len(set(kept)) == 3
    assert found.page.locator("#history svg circle").count() == 3
    assert found.page.locator("#numbers figure svg rect").count() > 4
    assert found.page.locator("#numbers figure svg line.mark").count() == 2
    assert found.quiet, found


def test_numbers_come_once_the_keys_rest_and_not_for_every_key(seen: Any) -> None:
    found = seen()
    found.page.locator("#prompt textarea").press_sequentially("Tell me of bread.", delay=5)
    found.page.locator("#history td.words", has_text="Tell me of bread.").wait_for(timeout=PATIENCE)
    assert found.posted[-1] == "Tell me of bread."
    assert len(found.posted) < len("Tell me of bread.") / 3
    assert found.quiet, found


def test_both_answers_come_when_they_are_asked_for_and_every_token_has_its_colour(seen: Any) -> None:
    found = seen()
    found.type(PROMPT)
    assert found.page.locator("#answers article").count() == 0
    found.page.click("#ask")
    found.page.locator("#answers article.reference").wait_for(timeout=PATIENCE)
    spans = found.page.locator("#answers .text span").all()
    assert 2 <= len(spans) <= 24
    colours = [one.evaluate("one => getComputedStyle(one).backgroundColor") for one in spans]
    ratios = [float(one.get_attribute("data-value")) for one in spans]
    assert len(set(colours)) > 1
    assert ["rgba(0, 114, 178" in colour for colour in colours] == [ratio > 0 for ratio in ratios]
    assert all("nats: policy " in one.get_attribute("title") for one in spans)
    legend = found.page.inner_text("#answers .legend")
    assert "per token" in legend and "nats" in legend and "blue" in legend
    found.page.click("#answers summary")
    rows = found.page.locator("#answers details tbody tr").all()
    shown = [float(row.locator("td").last.inner_text()) for row in rows]
    assert shown == pytest.approx(ratios, abs=6e-4)
    words = [found.page.inner_text(f"#answers article.{kind} .why") for kind in ("policy", "reference")]
    policy = found.page.locator("article.policy .text span").count()
    for word, part in zip(words, (ratios[:policy], ratios[policy:]), strict=True):
        assert f"whole answer {sum(part):+.2f} nats".replace("-", "−") in word
    assert found.quiet, found


def test_prompts_that_are_programs_stay_text(seen: Any) -> None:
    found = seen()
    for prompt in HOSTILE:
        found.type(prompt)
    found.page.click("#ask")
    found.page.locator("#answers article.reference").wait_for(timeout=PATIENCE)
    assert found.page.evaluate("window.hacked") is None
    cells = found.page.locator("#history td.words").all_text_contents()
    assert cells == HOSTILE[::-1]
    cards = "#history img, #history script, #numbers img, #answers img, #history svg svg"
    assert found.page.locator(cards).count() == 0
    assert found.quiet, found


def test_what_cannot_be_used_is_one_sentence_in_the_page(seen: Any) -> None:
    found = seen()
    found.page.fill("#prompt textarea", "rain " * 90)
    mistake = found.page.locator("#numbers .told.mistake")
    mistake.wait_for(timeout=PATIENCE)
    assert mistake.inner_text().startswith("typed: the prompt must be shorter than the run's")
    found.page.click("#ask")
    found.page.locator("#answers .told.mistake").wait_for(timeout=PATIENCE)
    found.type(PROMPT)
    assert mistake.count() == 0
    assert found.quiet, found


def test_on_a_phone_in_the_dark_nothing_is_wider_than_it(seen: Any) -> None:
    found = seen(360, "dark")
    found.type("Supercalifragilisticexpialidocious" * 2)
    found.page.click("#ask")
    found.page.locator("#answers article.reference").wait_for(timeout=PATIENCE)
    found.page.click("#answers summary")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = [found.page.locator(f"#answers article.{kind}").bounding_box() for kind in ("policy", "reference")]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    paper = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in paper[4:-1].split(",")) < 60
    assert found.quiet, found


def test_the_browser_refuses_scripts_to_ask_another_host(seen: Any) -> None:
    found = seen()
    tried = "fetch('https://evil.example/').then(() => 'reached').catch(() => 'refused')"
    assert found.page.evaluate(tried) == "refused"
    assert any("Content Security Policy" in one for one in found.complaints)


def test_the_server_answers_no_other_name_and_reports_to_nobody(address: str) -> None:
    with urllib.request.urlopen(f"{address}config", timeout=60) as answer:
        config = json.load(answer)
    assert config["analytics_enabled"] is False
    assert {one["api_visibility"] for one in config["dependencies"]} == {"private"}
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{address}config", headers=headers), timeout=60)
