"""`run.json`: everything besides the configuration that is needed to know, and to repeat, what ran."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasets

from betahead.data.paths import expanded
from betahead.runs.launched import command_words
from betahead.runs.machine import hardware, software
from betahead.runs.redaction import redacted_words

SCHEMA_VERSION = 1


def run_record(
    *, seed: int, data: Mapping[str, Mapping[str, str]], command: Sequence[str] | None = None
) -> dict[str, Any]:
    """The content of `run.json`.

    Args:
        seed: of the run.
        data: fingerprint of every data set read, by its role (`train`, `eval`, `corpus`).
        command: the words that repeat the run; by default those this process, or its launcher, was started with.
    """
    words = command_words() if command is None else list(command)
    return {
        "schema_version": SCHEMA_VERSION,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(redacted_words(words)),
        "seed": seed,
        "software": software(),
        "hardware": hardware(),
        "data": {role: dict(fingerprint) for role, fingerprint in data.items()},
    }


def data_fingerprint(source: str, split: str = "train") -> dict[str, str]:
    """What identifies the content of a data set: its name as the user wrote it, and a digest.

    Args:
        source: a file (`sha256` of its bytes as they lie on disk), a folder of `save_to_disk` (`sha256` of its
            Arrow files, which the same rows in other shards do not have, and the `fingerprint` that `datasets` made,
            which other rows can have too) or a Hub name (that alone).
        split: where the source has several; a split in the name wins.
    """
    path = Path(expanded(source))
    if path.is_file():
        with path.open("rb") as file:
            return {"source": source, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if path.is_dir():
        folder = path if (path / "state.json").is_file() else path / split
        content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return {"source": source, "sha256": _saved_digest(folder, content), "fingerprint": str(content["_fingerprint"])}
    name, _, named_split = source.partition(":")
    loaded = datasets.load_dataset(name, split=named_split or split)
    return {"source": source, "fingerprint": str(loaded._fingerprint)}


def _saved_digest(folder: Path, state: Mapping[str, Any]) -> str:
    """The digest of a saved data set: its Arrow files in their order, and which columns of them are read."""
    whole = hashlib.sha256(json.dumps(state.get("_format_columns")).encode())
    for part in state["_data_files"]:
        with (folder / part["filename"]).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
