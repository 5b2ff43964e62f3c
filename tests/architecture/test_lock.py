"""The lock: hashed, complete, and the same versions wherever a version is written."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ["core.txt", "test.txt"]
PINNED = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>\S+)(?P<marker> ; .+)? \\$")


def requirement_lines(name):
    return (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()


def pins(name):
    """Versions by package; a package may be pinned once per Python version."""
    found = {}
    for line in requirement_lines(name):
        if match := PINNED.match(line):
            found.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
    return found


def test_every_file_of_requirements_that_is_installed_is_a_lock():
    assert sorted(path.name for path in (ROOT / "requirements").glob("*.txt")) == LOCKS


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_and_hashes_and_nothing_else(name):
    for line in requirement_lines(name):
        assert PINNED.match(line) or re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line), line


@pytest.mark.parametrize("name", LOCKS)
def test_every_pin_has_a_hash(name):
    lines = requirement_lines(name)
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if PINNED.match(line):
            assert following.startswith("    --hash="), line


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_this_torch_and_none_of_the_packages_of_cuda(name):
    locked = pins(name)
    assert locked["torch"] == {"2.13.0"}
    assert not [package for package in locked if package.startswith(("nvidia", "cuda", "triton"))]


def test_the_pins_that_were_chosen_by_hand_are_those_of_the_lock():
    for line in requirement_lines("core.in"):
        if "==" in line:
            name, version = line.split("==")
            assert pins("core.txt")[name] == {version}
    assert pins("test.txt")["trl"] == {"1.16.0"}
    (torch,) = tomllib.loads("\n".join(requirement_lines("lock.toml")))["dependency-metadata"]
    assert f"{torch['name']}=={torch['version']}" in requirement_lines("core.in")


def test_the_test_lock_holds_the_core_lock():
    core, test = pins("core.txt"), pins("test.txt")
    assert {name: test.get(name) for name in core} == core


def test_every_requirement_of_the_package_is_locked_within_its_range():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, lines in (
        ("core.txt", project["dependencies"]),
        ("test.txt", project["optional-dependencies"]["test"]),
    ):
        locked = pins(name)
        for requirement in map(Requirement, lines):
            for version in locked[canonicalize_name(requirement.name)]:
                assert requirement.specifier.contains(version), requirement


def test_pre_commit_has_the_versions_of_the_lock():
    configuration = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repo in configuration["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} >= {"ruff", "basedpyright"}
    locked = pins("test.txt")
    for hook in hooks:
        for dependency in hook["additional_dependencies"]:
            name, version = dependency.split("==")
            assert locked[name] == {version}, hook["id"]


def test_the_workflow_runs_what_a_person_runs_on_the_supported_pythons():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert "make test" in [step.get("run") for step in job["steps"]]
