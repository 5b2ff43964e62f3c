"""Run folders as somebody may hand them on: that of a run which ended well, with one of its files damaged."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import yaml
from hypothesis import strategies as st
from rich.console import Console

from bench.fuzz_configs import changed, scribbled
from bench.fuzz_doors import Target, check_sentence
from bench.fuzz_files import damaged
from betahead.data.rows import Row
from betahead.errors import BetaHeadError
from betahead.report.written import write_report
from betahead.runs.config import load_config
from betahead.runs.inspected import Inspector
from betahead.runs.opened import open_run
from betahead.runs.training import train_run

FINISHED = (
    *("config.yaml", "run.json", "summary.json", "metrics.jsonl", "samples.jsonl", "prompts.parquet"),
    *("training_prompts.json", "beta_head.json", "beta_head.safetensors"),
    *("policy/config.json", "policy/tokenizer.json", "policy/tokenizer_config.json", "policy/model.safetensors"),
)
"""What is read of a finished run."""
STOPPED = (
    *("config.yaml", "run.json", "metrics.jsonl", "prompts.parquet"),
    *(f"checkpoints/checkpoint-1/{name}" for name in ("trainer_state.json", "course.safetensors", "manifest.json")),
    *(f"checkpoints/checkpoint-1/{name}" for name in ("optimizer.safetensors", "rank-0.safetensors")),
)
"""What is read of a run that goes on."""

Damage = tuple[str, bytes | None]
"""The name of a file and what it holds instead; None for a pipe, whose reader would wait."""


def damages(run: Path, names: Sequence[str]) -> st.SearchStrategy[Damage]:
    """One of these files of a run, by its name, and what it holds instead; now and then it is a pipe."""
    pipe = st.tuples(st.sampled_from(names), st.none())
    other = st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), _other(run / name)))
    return st.integers(0, 7).flatmap(lambda at: other if at else pipe)


def _put(path: Path, content: bytes | None) -> None:
    """Let the file hold that, or be a pipe."""
    path.unlink()
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)


def _other(path: Path) -> st.SearchStrategy[bytes]:
    whole = path.read_bytes()
    if path.suffix in (".safetensors", ".parquet"):
        return st.one_of(damaged(whole), _flipped(whole))
    text = whole.decode("utf-8")
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        values = st.integers(0, len(lines) - 1).flatmap(lambda at: _with_line(lines, at))
    else:
        values = changed(yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text))
    return st.one_of(values.map(_bytes), values.map(_bytes), scribbled(text).map(_bytes), damaged(whole))


def _with_line(lines: list[str], at: int) -> st.SearchStrategy[str]:
    return changed(json.loads(lines[at])).map(lambda line: "\n".join([*lines[:at], line, *lines[at + 1 :]]))


@st.composite
def _flipped(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with some of them changed, and no fewer of them."""
    found = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        found[draw(st.integers(0, len(found) - 1))] ^= draw(st.integers(1, 255))
    return bytes(found)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


class RunFolders:
    """The targets of run folders: what shows and opens a finished run, and what goes on with a stopped one.

    Args:
        folder: for the runs; made when the first input is.
        model: names the folder of the model that they begin with.
    """

    def __init__(self, folder: Path, model: Callable[[], Path]) -> None:
        self.folder = folder
        self.model = model

    def targets(self) -> list[Target]:
        """Both of them."""
        shown = st.deferred(lambda: damages(self.finished, FINISHED))
        resumed = st.deferred(lambda: damages(self.stopped, STOPPED))
        return [
            Target(name="run/shown", inputs=shown, read=self._show, share=12),
            Target(name="run/resumed", inputs=resumed, read=self._resume, share=3),
        ]

    @cached_property
    def text(self) -> str:
        """The configuration of the run."""
        data = self.folder / "pairs.jsonl"
        data.parent.mkdir(parents=True)
        rows = [{"prompt": f"{at} ?", "chosen": "a b" * (1 + at % 2), "rejected": "c"} for at in range(8)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return f"""
            model: {{name: {self.model()}}}
            data: {{train: {data}, max_length: 48, holdout: 0.25}}
            beta: {{kind: learned}}
            train: {{max_steps: 2, per_device_train_batch_size: 2, use_cpu: true, logging_steps: 1, save_steps: 1}}
            evaluate: {{samples: 1, max_new_tokens: 2}}
            output: {self.folder / "finished"}
            """

    @cached_property
    def finished(self) -> Path:
        """A run that ended well."""
        return train_run(load_config(self.text), Console(quiet=True), command=["betahead", "train"]).folder.path

    @cached_property
    def stopped(self) -> Path:
        """The same run as it was after its first step."""
        stopped = self.folder / "stopped"
        ended = shutil.ignore_patterns("DONE", "summary.json", "policy", "checkpoint-2", "beta_head*")
        shutil.copytree(self.finished, stopped, ignore=ended)
        return stopped

    def _show(self, damage: Damage) -> None:
        """The page of a run, its models and rule opened again, and β of a prompt of one's own."""
        path = self.finished / damage[0]
        whole = path.read_bytes()
        _put(path, damage[1])
        try:
            write_report([self.finished], self.folder / "report.html")
            name = load_config(self.finished / "config.yaml").model.name
            if name is None or not Path(name).is_dir():  # else a model of the Hub would be asked for
                return
            opened = open_run(self.finished, device="cpu")
            inspector = Inspector(opened)
            inspector.views(inspector.records([Row(values={"prompt": "a ?"}, where="a prompt")]))
            assert opened.trained_digest
        except BetaHeadError as error:
            check_sentence(error)
            raise
        finally:
            _put(path, whole)

    def _resume(self, damage: Damage) -> None:
        """The rest of a run."""
        run = self.folder / "resumed"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.stopped, run)
        _put(run / damage[0], damage[1])
        try:
            config = load_config(self.text, [f"output={run}"])
            train_run(config, Console(quiet=True), command=["betahead", "train"], resume=True)
        except BetaHeadError as error:
            check_sentence(error)
            raise
