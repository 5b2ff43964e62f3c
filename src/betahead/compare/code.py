"""Which code the numbers of a comparison come from: the version of the package, and a digest of what decides numbers.

A plan's hash names a question. Two versions of the package may answer it differently, so what was run by one must not
be mixed with what was run by another.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import betahead

NUMBERS = ("beta", "compare", "losses", "scores.py", "stats", "types.py", "worlds")
"""What decides numbers in every world."""
MODELS = ("data", "evaluate", "forward", "reference", "runs", "train")
"""What decides them besides, where a language model is trained."""
SHOWN = ("markdown", "progress.py", "self_test", "tables.py", "evidence.schema.json")
"""Of `compare`, by how names begin: what shows numbers, or tests how they come about, and decides none."""

_SUFFIXES = {".py", ".json"}


@dataclass(frozen=True, kw_only=True)
class Code:
    """The version of the package, and SHA-256 over the files that decide numbers."""

    version: str
    digest: str

    def __str__(self) -> str:
        return f"betahead {self.version}, code {self.digest[:12]}"


def code_of(cells: Sequence[str]) -> Code:
    """The code behind the numbers of these cells."""
    parts = NUMBERS + (MODELS if any(cell.startswith("sequence/") for cell in cells) else ())
    return Code(version=betahead.__version__, digest=_digest(parts))


def files_of(parts: Sequence[str]) -> Iterator[Path]:
    """The files behind parts of the package, relative to it, in the order of their names."""
    root = _root()
    for part in sorted(parts):
        path = root / part
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            shows = file.parent.name == "compare" and file.name.startswith(SHOWN)
            if file.suffix in _SUFFIXES and not shows:
                yield file.relative_to(root)


@cache
def _digest(parts: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for file in files_of(parts):
        content = (_root() / file).read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{file.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _root() -> Path:
    return Path(betahead.__file__).parent
