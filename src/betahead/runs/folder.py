"""A run's folder: everything that one run leaves behind, under names that do not change.

config.yaml      the resolved configuration; `betahead train config.yaml output=OTHER` repeats the run
run.json         versions, hardware, seed, command, data fingerprints; `resumptions`, once there was one
metrics.jsonl    one JSON object a log step
prompts.parquet  beta and its causes for the held-out prompts, with both answers, at 0, 25, 50, 75 and 100 % of training
samples.jsonl    answers of policy and reference
training_prompts.json  log PPL and beta of a sample of the training prompts at the end, sorted; not where beta is a
                 matter of the pair or the batch, and a prompt has none of its own
checkpoints/     the trainer's checkpoints, from the last of which `betahead train CONFIG --resume` goes on
reference_adapter/  the adapter that the run began with, where it trained one further
adapter/         the adapter, where it was merged into `policy/`
policy/          the policy, an ordinary Hugging Face folder with a model card; beta_head.safetensors and beta_head.json
                 beside it
eval.json        what `betahead eval --save` measured; judgements.sqlite holds the replies of a judge
failures/        what was seen when a run stopped because its loss was no number any more
summary.json     the end result
DONE             written last: without it the run did not finish
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from betahead.data.paths import with_home
from betahead.durable import write_whole
from betahead.errors import ConfigError
from betahead.runs.atomic import append_line, plain, write_json, write_text
from betahead.runs.redaction import BLOT, names_secret, redacted


def check_output(path: str | Path) -> Path:
    """The path, once it is known that a run may be written there; nothing is created.

    Raises:
        ConfigError: for a folder that holds anything, a file, or a place where nothing can be written.
    """
    path = Path(path)
    try:
        path = path.expanduser()
        problem = _problem(path)
    except OSError as error:
        problem = f"be usable, but {path} is not ({error.strerror}); choose another"
    except (RuntimeError, UnicodeEncodeError):  # `~` of an unknown user, half of a surrogate pair
        problem = f"be usable, but {str(path)!r} names no place here; choose another"
    if problem:
        raise ConfigError(f"`output` must {problem}.")
    return path


def _problem(path: Path) -> str:
    """What the path should be and is not, "" when a run may be written there."""
    if b"\0" in os.fsencode(path):
        return f"be usable, but {str(path)!r} holds a character that no path can hold; choose another"
    if path.is_dir() and any(path.iterdir()):
        done = (path / "DONE").exists()
        held = "another run" if (path / "run.json").exists() or done else "other files"
        remedy = "choose another (`output=runs/NAME`) or remove it"
        if (path / "run.json").exists() and not done:
            remedy = "go on with it (`--resume`), choose another (`output=runs/NAME`) or remove it"
        return f"be a folder of its own, but {path} holds {held} already; {remedy}"
    if path.exists() and not path.is_dir():
        return f"be a folder, but {path} is a file instead; choose another name"
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir():
        return f"lie in a folder, but {above} is a file instead; choose another name"
    if not os.access(above, os.W_OK | os.X_OK):
        return f"be writable, but {above} is not; choose a folder of yours"
    return ""


class RunFolder:
    """Writes and finds the files of one run; text and JSON appear whole or not at all, secrets are blotted out."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """A new, empty run folder.

        Raises:
            ConfigError: see `check_output`; also when the file system refuses.
        """
        path = check_output(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            _make_alone(path / "checkpoints")
            (path / "failures").mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"`output` must be usable, but {path} is not ({error.strerror}); choose another."
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The folder of a run that finished.

        Raises:
            ConfigError: for a folder that is missing, holds no run, or one that did not finish.
        """
        path = with_home(path)
        if not (path / "run.json").is_file():
            problem = "holds no run.json" if path.is_dir() else "is not a folder"
            raise ConfigError(f"RUN must be the folder of a run, but {path} {problem}; name the run's `output`.")
        if not (path / "DONE").is_file():
            raise ConfigError(f"RUN must be a finished run, but {path} has no file DONE; train it again.")
        return cls(path)

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a log step."""
        return self.path / "metrics.jsonl"

    @property
    def prompts(self) -> Path:
        """Snapshots of the held-out prompts."""
        return self.path / "prompts.parquet"

    @property
    def training_prompts(self) -> Path:
        """log PPL and β of a sample of the training prompts at the end of training."""
        return self.path / "training_prompts.json"

    @property
    def samples(self) -> Path:
        """Answers of policy and reference."""
        return self.path / "samples.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The trainer's checkpoints."""
        return self.path / "checkpoints"

    @property
    def policy(self) -> Path:
        """The trained policy, as an ordinary Hugging Face folder."""
        return self.path / "policy"

    @property
    def adapter(self) -> Path:
        """The trained adapter, where `policy` holds it merged into the whole model."""
        return self.path / "adapter"

    @property
    def reference_adapter(self) -> Path:
        """The adapter that the run began with, where it trained one further."""
        return self.path / "reference_adapter"

    @property
    def failures(self) -> Path:
        """What was seen when a run stopped because its loss was no number any more."""
        return self.path / "failures"

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json."""
        return self._json("run.json")

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json, of a run that finished."""
        return self._json("summary.json")

    def _json(self, name: str) -> Any:
        """The content of a file, once it is known to be one: a pipe would be waited for."""
        path = self.path / name
        if path.exists() and not path.is_file():
            raise OSError(f"{name} is no file")
        return json.loads(path.read_text(encoding="utf-8"))

    @property
    def finished(self) -> bool:
        """True once everything was written."""
        return (self.path / "DONE").is_file()

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        write_text(self.config, redacted(text))

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write run.json; see `runs.record.run_record`."""
        self.write_json("run.json", record)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of this name."""
        write_json(self.path / name, _without_secrets(plain(value)))

    def write_failure(self, name: str, seen: Mapping[str, Any]) -> Path:
        """Write what was seen when a run stopped, and say where."""
        self.write_json(f"failures/{name}", seen)
        return self.failures / name

    def log_metrics(self, row: Mapping[str, Any]) -> None:
        """Append a row to metrics.jsonl; NaN and infinities become the texts "nan", "inf" and "-inf"."""
        append_line(self.metrics, row)

    def keep_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Cut metrics.jsonl back to these rows of a trainer's log; what a crash has swallowed is written again."""
        there = self.metrics.read_bytes().splitlines(keepends=True) if self.metrics.is_file() else []
        kept = [line for line in there[: len(history)] if line.endswith(b"\n")]
        write_whole(self.metrics, b"".join(kept))
        for row in history[len(kept) :]:
            self.log_metrics({"step": row["step"], **row})

    def add_sample(self, row: Mapping[str, Any]) -> None:
        """Append a row to samples.jsonl."""
        append_line(self.samples, row)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json and then, last of all, DONE."""
        self.write_json("summary.json", summary)
        write_text(self.path / "DONE", "")


def _make_alone(place: Path) -> None:
    """Make a folder of a new run; of several processes that found the run's folder free, one can.

    Raises:
        ConfigError: to the others.
    """
    try:
        place.mkdir()
    except FileExistsError as error:
        raise ConfigError(
            f"`output` must be a folder of its own, but another run has just begun in {place.parent}; choose another "
            "(`output=runs/NAME`)."
        ) from error


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [_without_secrets(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {
            key: BLOT if isinstance(item, str) and names_secret(key) else _without_secrets(item)
            for key, item in cast("dict[str, Any]", value).items()
        }
    return value
