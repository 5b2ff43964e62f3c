"""How the source is laid out: short files, names that say something, and no trace of a machine."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
EMPTY_NAMES = {"utils", "util", "common", "misc", "helpers", "helper", "base", "core"}
# Written apart, so that this file may hold them too.
BESIDE = "../" + "shared"
UNFINISHED = ["TO" + "DO", "FIX" + "ME", "raise NotImplemented" + "Error", "no" + "qa", "type: " + "ignore"]


def committed_files():
    """The files of the repository, those not yet added included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("the checkout is not a git repository, so its files cannot be told from others")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_source_file_is_one_idea_in_at_most_300_lines_and_a_rule_in_150(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= (150 if path.parent.name == "beta" else 300)
    assert path.stem not in EMPTY_NAMES and path.parent.name not in EMPTY_NAMES
    assert text.removeprefix("r").startswith('"""'), "a file begins by saying what it is for"
    assert not [word for word in UNFINISHED if word in text]


def test_test_files_have_names_of_their_own():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_only_the_script_of_ci_knows_the_folder_beside_the_checkout():
    knowing = []
    for path in committed_files():
        if BESIDE in path.read_bytes().decode("utf-8", errors="ignore"):
            knowing.append(path.relative_to(ROOT).as_posix())
    assert set(knowing) <= {".ci/run"}


def test_scripts_can_be_executed():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_what_a_repository_is_expected_to_hold_is_there():
    for name in ("README.md", "LICENSE", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Makefile"):
        assert (ROOT / name).stat().st_size > 0
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "END OF TERMS AND CONDITIONS" in (ROOT / "LICENSE").read_text()


def test_the_version_is_the_same_wherever_it_is_written():
    from betahead import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
