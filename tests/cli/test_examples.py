"""The programs of examples/ run, in their short form, and say what they are there to say."""

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = ["--steps", "2", "--tokens", "6000"]
RUN = {
    "learned_beta": SHORT,
    "own_loop": SHORT,
    "custom_rule": ["--steps", "5", "--tokens", "6000"],
    "compare_two": [],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def example(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run a program as `python examples/NAME.py` does, and what it printed."""

    def run(name: str) -> str:
        monkeypatch.chdir(place)
        monkeypatch.syspath_prepend(str(EXAMPLES))
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *RUN[name]])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_every_program_is_named_and_run():
    programs = {path.stem for path in EXAMPLES.glob("*.py")} - {"small"}
    assert programs == RUN.keys()
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".ipynb"}} == set(
        re.findall(r"\]\((\S+\.(?:py|ipynb))\)", page)
    )


def test_a_whole_run_prints_the_beta_of_every_topic(example: Callable[[str], str], place: Path):
    screen = example("learned_beta")
    rows = re.findall(r"^(\w+) +(\d\.\d{3}) +(\d\.\d{3})$", screen, re.MULTILINE)
    assert len(rows) == 8
    assert (place / "runs" / "learned_beta" / "DONE").is_file()


def test_a_loop_of_ones_own_begins_where_policy_and_reference_are_the_same(example: Callable[[str], str]):
    screen = example("own_loop")
    first, second = re.findall(r"^step +\d+ +loss (\d\.\d{3})  margin ([+-]\d\.\d{2}) nats", screen, re.MULTILINE)
    assert first == ("0.693", "+0.00")
    assert second != first


def test_a_rule_of_ones_own_is_trained_with_its_two_levels(example: Callable[[str], str]):
    (row,) = re.findall(r"β from (\d\.\d{2}) to (\d\.\d{2})", example("custom_rule"))
    assert row == ("0.10", "0.30")


def test_a_comparison_ends_in_a_sentence_with_what_it_could_have_found(example: Callable[[str], str], place: Path):
    screen = example("compare_two")
    assert "the mechanism of joint_plus (better than fixed, its parent and its placebo):" in screen
    assert screen.count("would have been seen") == 2
    assert (place / "comparisons" / "compare_two" / "evidence.md").is_file()
