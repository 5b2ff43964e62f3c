"""docs/methods.md holds every row of the tables of methods as the code has it, and the tests that it names exist."""

import re
import subprocess
import sys
from pathlib import Path

import methods_page
import pytest

from betahead.runs.methods import Method, methods

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


@pytest.fixture(scope="module")
def collected() -> dict[tuple[str, str], set[str]]:
    """The parameters of every test in the files that the page names, all in one set for each."""
    files = sorted({path for body in SECTIONS.values() for path, _ in methods_page.named_tests(body)})
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "slow or not slow", "-n", "0", *files]
    shown = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found: dict[tuple[str, str], set[str]] = {}
    for path, test, said in re.findall(r"^(\S+?)::(\w+)(?:\[(.*)\])?$", shown, re.MULTILINE):
        found.setdefault((path, test), set()).update(said.split("-"))
    return found


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_a_test_that_is_run_for_one_method_after_the_other_is_run_for_those_that_name_it(
    method: Method, collected: dict[tuple[str, str], set[str]]
) -> None:
    others = {other.name for other in methods() if other.group == method.group}
    for path, test in methods_page.named_tests(SECTIONS[method.name]):
        assert (path, test) in collected, "nothing of it is collected"
        # A file of the method's own may run it with others inside.
        own, run = path.endswith(f"/test_{method.name}.py"), collected[path, test]
        assert own or method.name in run or not others & run, (path, test)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_function_that_is_named_exists(method: object) -> None:
    module, _, name = method.where.rpartition(".")  # pyright: ignore
    source = ROOT / "src" / f"{module.replace('.', '/')}.py"
    assert re.search(rf"^(class|def) {name}\b", source.read_text(encoding="utf-8"), re.MULTILINE)
