"""From folders to one page: what they are, the page, and the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from betahead import __version__
from betahead.compare.comparison import EVIDENCE
from betahead.errors import ConfigError
from betahead.report.comparison_page import comparison_page
from betahead.report.evidence_file import read_evidence
from betahead.report.page import MOST_BYTES
from betahead.report.run_files import read_run
from betahead.report.run_page import run_page
from betahead.runs.atomic import write_text

MOST_RUNS = 12
REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A page that was written.

    Args:
        path: of the file.
        size: in bytes.
        problems: what could not be read; empty for a page that shows everything it was asked for.
    """

    path: Path
    size: int
    problems: tuple[str, ...]


def write_report(paths: Sequence[Path], output: Path | None = None) -> Report:
    """Write the page of one run, of several beside each other, or of one comparison.

    A folder that holds neither, or whose files are broken, gets a page that says so.

    Args:
        paths: folders of runs, or one folder of a comparison or its `evidence.json`.
        output: the file; by default report.html in the first folder.

    Raises:
        ConfigError: a path that does not exist, a comparison beside something else, too many runs, or a file that
            cannot be written.
    """
    folders = [_there(path) for path in paths]
    comparisons = [path for path in folders if path.is_file() or (path / EVIDENCE).is_file()]
    if comparisons and len(folders) > 1:
        raise ConfigError(
            f"A comparison must be alone on its page, but {comparisons[0]} stands beside {len(folders) - 1} others "
            "instead; give it alone."
        )
    if not 1 <= len(folders) <= MOST_RUNS:
        raise ConfigError(f"RUN must be given 1 to {MOST_RUNS} times, but is given {len(folders)} times instead.")
    document, problems = _comparison(comparisons[0]) if comparisons else _runs(folders)
    content = document.encode("utf-8", "replace").decode()
    size = len(content.encode())
    if size > MOST_BYTES:
        raise ConfigError(
            f"A page must stay below {MOST_BYTES / 1e6:.0f} MB, but has {size / 1e6:.1f} MB instead; give fewer runs."
        )
    path = _output(folders[0], output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, content)
    except OSError as error:
        raise ConfigError(
            f"--output must be a file that can be written, but {path} is not ({error.strerror})."
        ) from None
    return Report(path=path, size=size, problems=problems)


def names_of(paths: Sequence[Path]) -> list[str]:
    """A name for each folder: its last part, with as many of those above as tell it from the others."""
    absolute = [path.absolute() for path in paths]
    names = [path.name or str(path) for path in absolute]
    for depth in range(2, max(len(path.parts) for path in absolute) + 1):
        if len(set(names)) == len(names):
            return names
        names = [
            "/".join(path.parts[-depth:]).lstrip("/") if names.count(name) > 1 else name
            for path, name in zip(absolute, names, strict=True)
        ]
    return [name if names.count(name) == 1 else f"{name} ({at})" for at, name in enumerate(names, 1)]


def _there(path: Path) -> Path:
    path = path.expanduser()
    if not path.exists():
        raise ConfigError(f"RUN must be the folder of a run or a comparison, but {path} does not exist.")
    if path.is_file() and path.suffix != ".json":
        raise ConfigError(f"RUN must be the folder of a run or a comparison, but {path} is a file instead.")
    return path


def _output(first: Path, output: Path | None) -> Path:
    if output is not None:
        output = output.expanduser()
        if output.is_dir():
            raise ConfigError(f"--output must be a file, but {output} is a folder instead; name the file in it.")
        return output
    return (first.parent if first.is_file() else first) / REPORT


def _runs(folders: Sequence[Path]) -> tuple[str, tuple[str, ...]]:
    runs = [read_run(path, name) for path, name in zip(folders, names_of(folders), strict=True)]
    problems = [f"{run.path} holds no run." for run in runs if run.empty]
    problems += [f"{run.path}: {sentence}" for run in runs for sentence in run.broken]
    return run_page(runs, _FOOTER), tuple(problems)


def _comparison(path: Path) -> tuple[str, tuple[str, ...]]:
    evidence = read_evidence(path)
    return comparison_page(evidence, _FOOTER), (f"{evidence.path}: {evidence.broken}",) if evidence.broken else ()


_FOOTER = (
    f"Written by betahead report, version {__version__}. The page is complete: it loads nothing and sends nothing. "
    "Texts of prompts and answers are quoted as they are, but for secrets, which are blotted out."
)
