"""What a run's folder holds, read without trust: a file that is missing or broken becomes a sentence."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from betahead.report.numbers import finite
from betahead.runs.folder import RunFolder
from betahead.runs.redaction import redacted
from betahead.runs.yaml_text import read_yaml

T = TypeVar("T")

_redacted = lru_cache(4096)(redacted)  # names of cells and methods stand in thousands of rows
Row = dict[str, Any]

SNAPSHOT = ("progress", "step", "prompt_id", "prompt", "domain", "log_ppl", "f", "beta", "margin", "pc1", "pc2")
"""The columns of `prompts.parquet` that a page reads; `chosen` and `rejected` stand there too since runs keep them."""


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """A run as far as its folder tells.

    Args:
        name: its folder's, made different from those of other runs on the page.
        config: as it was resolved; empty where it is not there.
        config_text: the same as YAML.
        record: of run.json.
        metrics: rows of metrics.jsonl.
        prompts: rows of prompts.parquet.
        samples: rows of samples.jsonl.
        summary: of summary.json.
        measured: of eval.json, which `betahead eval --save` writes.
        broken: sentences on files that are there and cannot be read.
        missing: sentences on files that are not there.
    """

    name: str
    path: Path
    config: Row = field(default_factory=dict[str, Any])
    config_text: str = ""
    record: Row = field(default_factory=dict[str, Any])
    metrics: list[Row] = field(default_factory=list[Row])
    prompts: list[Row] = field(default_factory=list[Row])
    samples: list[Row] = field(default_factory=list[Row])
    summary: Row = field(default_factory=dict[str, Any])
    measured: Row = field(default_factory=dict[str, Any])
    broken: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing of a run could be read."""
        return not (self.config or self.record or self.metrics or self.prompts)

    @property
    def last(self) -> list[Row]:
        """The rows of the last snapshot."""
        if not self.prompts:
            return []
        step = max(row["step"] for row in self.prompts)
        return [row for row in self.prompts if row["step"] == step]

    def of(self, *path: str) -> Any:
        """A value of the configuration, None where there is none."""
        return at(self.config, *path)

    def logged(self, key: str) -> list[tuple[int, float]]:
        """Steps and values of a metric where it was logged and is a number."""
        found = [(row.get("step"), finite(row.get(key))) for row in self.metrics]
        return [(step, value) for step, value in found if isinstance(step, int) and value is not None]


def at(tree: Any, *path: str) -> Any:
    """What lies under these keys, None where the way there breaks off."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = cast("Mapping[str, Any]", tree).get(key)
    return tree


def listed(value: Any) -> list[Any]:
    """The value if it is a list, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def mapped(value: Any) -> Row:
    """The value if it is a dict, else an empty one."""
    return cast("Row", value) if isinstance(value, dict) else {}


def read_run(path: Path, name: str) -> RunFiles:
    """Everything of a run that can be read; secrets are blotted out of all of it."""
    folder = RunFolder(path)
    broken: list[str] = []
    missing: list[str] = []

    def read(file: Path, reader: Callable[[Path], T], otherwise: T, *, wanted: bool = True) -> T:
        if not file.is_file():
            if wanted:
                missing.append(f"{file.name} is not there.")
            return otherwise
        try:
            return reader(file)
        except (OSError, ValueError, TypeError, KeyError, RecursionError, pa.ArrowException) as error:
            detail = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            broken.append(redacted(f"{file.name} cannot be read ({detail})."))
            return otherwise

    def read_lines(file: Path) -> list[Row]:
        rows, bad = _lines(file)
        if bad:
            broken.append(f"{file.name} has {len(bad)} lines that are no JSON object, the first of them line {bad[0]}.")
        return rows

    text = redacted(read(folder.config, lambda file: file.read_text(encoding="utf-8"), ""))
    found = RunFiles(
        name=name,
        path=path,
        config_text=text,
        config=read(folder.config, lambda _: read_yaml(text).values, {}),
        record=read(path / "run.json", _json, {}),
        metrics=read(folder.metrics, read_lines, []),
        prompts=read(folder.prompts, _snapshots, []),
        samples=read(folder.samples, read_lines, []),
        summary=read(path / "summary.json", _json, {}),
        measured=read(path / "eval.json", _json, {}, wanted=False),
    )
    if not folder.finished:
        missing.append("The file DONE is not there: the run has not finished, or was stopped.")
    return replace(found, broken=tuple(dict.fromkeys(broken)), missing=tuple(dict.fromkeys(missing)))


def _mapping(value: Any) -> Row:
    if not isinstance(value, dict):
        raise ValueError("it holds no keys")
    return {str(key): item for key, item in cast("dict[Any, Any]", value).items()}


def _json(file: Path) -> Row:
    return _mapping(without_secrets(json.loads(file.read_text(encoding="utf-8"))))


def _lines(file: Path) -> tuple[list[Row], list[int]]:
    """The objects of a JSONL file, and the numbers of the lines that hold none."""
    rows: list[Row] = []
    bad: list[int] = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            rows.append(without_secrets(cast("Row", value)))
        elif line.strip():
            bad.append(number)
    return rows, bad


def _snapshots(file: Path) -> list[Row]:
    table = pq.read_table(file)
    absent = [name for name in SNAPSHOT if name not in table.column_names]
    if absent:
        raise ValueError(f"it has no column {absent[0]}")
    rows = [without_secrets(row) for row in table.to_pylist()]
    return [row for row in rows if isinstance(row["step"], int) and finite(row["beta"]) is not None]


def without_secrets(value: Any) -> Any:
    """The value with secrets blotted out of every text in it."""
    if isinstance(value, str):
        return _redacted(value)
    if isinstance(value, list):
        return [without_secrets(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_redacted(str(key)): without_secrets(item) for key, item in cast("dict[Any, Any]", value).items()}
    return value
