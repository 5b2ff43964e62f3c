"""A comparison from its plan to its folder: evidence.json, evidence.md, and the storage if it is a file."""

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from betahead.compare.board import Board
from betahead.compare.code import Code
from betahead.compare.evidence import SCHEMA_VERSION, Evidence
from betahead.compare.markdown import markdown_of
from betahead.compare.record import evidence_of
from betahead.compare.resolved import ResolvedPlan
from betahead.compare.work import work
from betahead.errors import ConfigError
from betahead.runs.atomic import write_json, write_text

EVIDENCE = "evidence.json"
REPORT = "evidence.md"


def compare(
    resolved: ResolvedPlan,
    folder: Path,
    url: str,
    command: str,
    on_progress: Callable[[Board], None] | None = None,
) -> Evidence:
    """Run what is not done yet, judge it, and write evidence.json and evidence.md.

    A comparison that was judged already is read from its folder, whichever code it is of: its evidence says so.

    Raises:
        ConfigError: the storage or the folder holds another plan, the storage runs of other code, or an item failed too
            often.
    """
    found = finished_evidence(resolved, folder)
    if found is not None:
        return found
    with Board(resolved, url) as board:
        finished = work(board, on_progress)
    evidence = evidence_of(finished, command)
    write_json(folder / EVIDENCE, evidence.model_dump(mode="json"))
    write_text(folder / REPORT, markdown_of(evidence))
    return evidence


def finished_evidence(resolved: ResolvedPlan, folder: Path) -> Evidence | None:
    """The evidence in the folder, where there is some.

    Raises:
        ConfigError: the folder holds the evidence of another plan, or evidence of another form.
    """
    path = folder / EVIDENCE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        held, opened, form = values["plan_hash"], values["test_opened"], values["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} must be the evidence of a comparison, but is not; move it away.") from None
    if form != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} must have schema_version {SCHEMA_VERSION}, but has {form}, because another version of the package "
            "wrote it; keep it for what it says, and give another --output to run the plan again."
        )
    if held != resolved.hash:
        raise ConfigError(
            f"The plan {resolved.plan.name} must stay as it is after its test was opened ({opened}, hash {held[:12]}), "
            f"but its hash, which covers its worlds too, is {resolved.hash[:12]} now; "
            "what was learned from the test must not shape the plan, so a change is a new plan with another `name` and "
            "another `seed`."
        )
    return Evidence.model_validate(values)


def other_code(resolved: ResolvedPlan, evidence: Evidence) -> list[str]:
    """A sentence where the evidence is of other code than this, else none."""
    held = Code(version=evidence.code.version, digest=evidence.code.digest)
    if held == resolved.code:
        return []
    return [
        f"This evidence is of {held}, and this is {resolved.code}: nothing was run; give another --output to run the "
        "plan again."
    ]


def folder_of(resolved: ResolvedPlan, output: Path | None) -> Path:
    """The comparison's folder, made if need be: the given one, or comparisons/NAME.

    Raises:
        ConfigError: it cannot be made.
    """
    folder = Path("comparisons") / resolved.plan.name if output is None else output.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output must be a folder, but {folder} cannot be made ({error.strerror}).") from None
    return folder


def storage_of(folder: Path) -> str:
    """The storage that is used where none is named: a SQLite file in the folder."""
    return sqlalchemy.URL.create("sqlite", database=str((folder / "work.db").resolve())).render_as_string()


@contextmanager
def helpers(plan: Path, url: str, count: int, folder: Path) -> Generator[None]:
    """So many more processes on this machine that work on the comparison meanwhile.

    Args:
        plan: the plan's file.
        url: of the storage.
        count: how many.
        folder: of the comparison, where `workers.log` takes what they say on stderr.
    """
    words = [sys.executable, "-m", "betahead", "compare", str(plan), "--worker", "--storage", url]
    with (folder / "workers.log").open("ab") as log:
        started = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log) for _ in range(count)]
        try:
            yield
        finally:
            for one in started:
                one.terminate()
                one.wait()
