"""What a user installs: the wheel holds the package, its presets and its marker of types, and runs on its own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "betahead"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        f"betahead/{path.relative_to(SOURCE).as_posix()}"
        for path in SOURCE.rglob("*")
        if path.is_file() and path.suffix in {".css", ".js", ".json", ".py", ".typed", ".yaml"}
    }
    described = {name for name in names if ".dist-info/" in name}
    assert names - described == shipped
    assert "betahead/py.typed" in shipped and "betahead/presets/dpo.yaml" in shipped
    assert {name.partition("/")[2] for name in described} == {
        "METADATA",
        "WHEEL",
        "RECORD",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_the_wheel_is_for_every_platform_and_names_ranges_of_its_requirements(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        text = archive.read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Dist: torch>=" in text
    assert "Provides-Extra: test" in text and "Provides-Extra: gpu" in text


def test_the_installed_wheel_runs_without_the_checkout(wheel, tmp_path):
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(wheel)], capture_output=True, text=True, timeout=120, check=True)
    environment = {**os.environ, "PYTHONPATH": str(target), "COLUMNS": "200"}

    def python(*words):
        return subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=120,
            check=True,
        ).stdout

    assert python("-c", "import betahead; print(betahead.__file__)").strip() == str(target / "betahead" / "__init__.py")
    assert "Usage: betahead" in python("-m", "betahead", "--help").replace("python -m ", "")
    assert "alpaca_small" in python("-m", "betahead", "init", "--list")
