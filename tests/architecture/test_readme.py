"""The documentation is true: its tree, commands, programs, outputs, links and tables are those of the code."""

import dataclasses
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import trl
import typer

from betahead.cli.main import app
from betahead.data.formats import detected_layout, pair_from_row
from betahead.data.rows import Row
from betahead.runs.config import load_config
from betahead.runs.presets import config_path, preset_names
from betahead.train.arguments import DPOConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "examples" / "README.md", *(ROOT / "docs").rglob("*.md")]
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
EXECUTED = ["README.md", "docs/architecture.md"]
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
FENCED = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, kind: str) -> list[str]:
    return [match["text"] for match in FENCED.finditer(text_of(name)) if match["kind"] == kind]


# The tree


def documented_tree() -> set[str]:
    (tree,) = [block for block in blocks("README.md", "text") if block.startswith("src/betahead/\n")]
    found: set[str] = set()
    folder = ""
    for line in tree.splitlines()[1:]:
        inside, name = re.fullmatch(r"(│   )?(?:├──|└──) (\S+) .*\S", line).groups()
        if name.endswith("/"):
            folder = name
        else:
            found.add(f"{folder if inside else ''}{name}")
    return found


def test_the_tree_of_the_readme_is_that_of_the_disk() -> None:
    source = ROOT / "src" / "betahead"
    disk = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and (path.name != "__init__.py" or path.parent == source)
    }
    assert documented_tree() == disk


# Commands


def commands() -> Iterator[tuple[str, list[str]]]:
    for name in NAMES:
        text = text_of(name)
        inline = re.findall(r"`(betahead [^`]+)`", FENCED.sub("", text))
        lines = [line.partition(" #")[0] for block in blocks(name, "sh") for line in block.splitlines()]
        for command in [*inline, *(line for line in lines if line.startswith("betahead "))]:
            yield f"{name}: {command}", shlex.split(command)[1:]


def verbs() -> dict[str, Any]:
    return dict(typer.main.get_command(app).commands)


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in commands()])
def test_every_command_is_one_that_the_command_line_takes(words: list[str]) -> None:
    verb, *rest = words
    known = {name for parameter in verbs()[verb].params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known | {"--help"}
    plain = [word for word in rest if not word.startswith(("-", "["))]
    if verb == "train" and plain[0] != "CONFIG":
        config_path(plain[0])
        load_config(config_path(plain[0]), plain[1:])
    if verb == "init" and plain and plain[0] != "PRESET":
        assert plain[0] in preset_names()


def test_the_readme_names_every_verb() -> None:
    assert {words[0] for name, words in commands() if name.startswith("README.md")} >= verbs().keys()


# Programs


@pytest.mark.parametrize("name", NAMES)
def test_every_python_block_compiles(name: str) -> None:
    for block in blocks(name, "python"):
        compile(block, name, "exec")


_DRIVER = """
import contextlib, io, json, sys
found = []
for program in json.load(open("programs.json")):
    screen, names = io.StringIO(), {"__name__": "__main__"}
    with contextlib.redirect_stdout(screen):
        exec(compile(program, "documentation", "exec"), names)
    trainer = names.get("trainer")
    found.append({"screen": screen.getvalue(), "logs": trainer.state.log_history if trainer else []})
json.dump(found, open("found.json", "w"))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What the programs of the documents printed and logged, with a tiny model in the place of the named one."""
    folder = tmp_path_factory.mktemp("documents")
    tiny_run.write_model(folder / "model")
    tiny_run.write_rows(folder / "pairs.jsonl", tiny_run.pair_rows() * 2)
    programs = [(name, block.replace(MODEL, "model")) for name in EXECUTED for block in blocks(name, "python")]
    (folder / "programs.json").write_text(json.dumps([program for _, program in programs]))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "runs/mine/policy/beta_head.json").is_file()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in EXECUTED}
    for (name, _), result in zip(programs, json.loads((folder / "found.json").read_text()), strict=True):
        found[name].append(result)
    return found


def test_the_programs_of_the_readme_run(executed: dict[str, list[dict[str, Any]]]) -> None:
    assert len(executed["README.md"]) == 2
    assert executed["README.md"][0]["logs"]


def test_the_traced_batch_prints_what_the_page_shows(executed: dict[str, list[dict[str, Any]]]) -> None:
    (result,) = executed["docs/architecture.md"]
    shown = next(block for block in blocks("docs/architecture.md", "text") if block.startswith("1 prompt_ids"))
    assert NUMBER.sub("#", result["screen"]) == NUMBER.sub("#", shown)
    numbers, wanted = (list(map(float, NUMBER.findall(text))) for text in (result["screen"], shown))
    assert numbers == pytest.approx(wanted, abs=0.005)


# Data


def test_every_layout_has_an_example_that_is_read_as_one() -> None:
    sections = re.split(r"^### `(\w+)`$", text_of("docs/data.md").partition("## From text to tokens")[0], flags=re.M)
    layouts = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(layouts) == {"explicit", "chat", "ultrafeedback", "hh", "tokenized"}
    for layout, section in layouts.items():
        for line in FENCED.search(section)["text"].splitlines():
            row = Row(values=json.loads(line), where="docs/data.md")
            assert detected_layout([row], "docs/data.md") == layout
            if layout != "tokenized":
                pair = pair_from_row(row, layout)
                assert pair.chosen.startswith("Water") and pair.rejected == "Nobody knows."


def test_the_description_of_a_file_is_what_the_command_prints(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(blocks("docs/data.md", "json")[-1], encoding="utf-8")
    done = subprocess.run(
        [str(Path(sys.executable).parent / "betahead"), "data", "pairs.jsonl"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    (shown,) = [block for block in blocks("docs/data.md", "text") if block.startswith("pairs.jsonl:")]
    assert [line.rstrip() for line in done.stdout.splitlines()] == shown.splitlines()


# TRL


def named(text: str) -> set[str]:
    return set(re.findall(r"`([\w/]+)`", text))


def fields_of(config: type) -> dict[str, Any]:
    return {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in dataclasses.fields(config)
    }


def test_the_page_on_trl_knows_every_field_that_differs() -> None:
    page = text_of("docs/from-trl.md")
    theirs, ours = fields_of(trl.DPOConfig), fields_of(DPOConfig)
    missing = re.search(r"\*\*Not there\.\*\*[^\n]*\n(.*?)\n\n", page, re.DOTALL)
    assert missing is not None
    assert named(missing[1]) == theirs.keys() - ours.keys()
    table = page.partition("## `DPOConfig`")[2].partition("**Not there.**")[0]
    rows = {name: row for row in table.splitlines() if row.startswith("| `") for name in named(row.split("|")[1])}
    own = {name for name in ours if name not in fields_of(DPOConfig.__mro__[1])}
    assert own <= rows.keys()
    assert {name for name, row in rows.items() if "| new:" in row} == ours.keys() - theirs.keys()
    differing = {name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]}
    assert differing - {"loss_type", "gradient_checkpointing"} <= {
        name for name, row in rows.items() if "default" in row or "must" in row
    }


def test_the_page_on_trl_names_the_arguments_of_both_trainers() -> None:
    section = text_of("docs/from-trl.md").partition("## `DPOTrainer`")[2].partition("## ")[0]
    from betahead import DPOTrainer

    both = {*inspect.signature(trl.DPOTrainer).parameters, *inspect.signature(DPOTrainer).parameters}
    assert named(section) == both


def test_the_page_on_trl_names_every_metric(executed: dict[str, list[dict[str, Any]]]) -> None:
    rows = {
        line.split("|")[1].strip(): named(line.split("|")[2])
        for line in text_of("docs/from-trl.md").partition("## Metrics")[2].splitlines()
        if line.startswith("| ")
    }
    logged = executed["README.md"][0]["logs"][0].keys() - {"epoch", "step"}
    assert logged == (rows["kept, same value"] | rows["added"]) - {"beta/ppl_exponent"}
    theirs = set(re.findall(r'_metrics\[mode\]\["([^"]+)"\]', inspect.getsource(trl.DPOTrainer)))
    assert theirs == (rows["kept, same value"] - {"loss", "grad_norm", "learning_rate"}) | rows["not logged"]


# Links and gaps


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", text_of(name))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@pytest.mark.parametrize("name", NAMES)
def test_no_figure_is_left_to_be_measured(name: str) -> None:
    assert re.findall(r"<!-- measure[^\n]*", text_of(name)) == []
