"""docs/methods.md holds every row of the tables of methods as the code has it, and the tests that it names exist."""

import re
from pathlib import Path

import methods_page
import pytest

from betahead.runs.methods import methods

ROOT = Path(__file__).parents[2]
PAGE = methods_page.PAGE.read_text(encoding="utf-8")
SECTIONS = methods_page.sections(PAGE)


def test_the_page_is_what_the_tables_make_of_it() -> None:
    assert list(SECTIONS) == [method.name for method in methods()]
    assert methods_page.written(PAGE) == PAGE, "run: python tests/methods_page.py"


@pytest.mark.parametrize("name", SECTIONS)
def test_every_test_that_is_named_exists(name: str) -> None:
    named = methods_page.named_tests(SECTIONS[name])
    assert named, "a method is shown by a test"
    for path, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), test


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_function_that_is_named_exists(method: object) -> None:
    module, _, name = method.where.rpartition(".")  # pyright: ignore
    source = ROOT / "src" / f"{module.replace('.', '/')}.py"
    assert re.search(rf"^(class|def) {name}\b", source.read_text(encoding="utf-8"), re.MULTILINE)
