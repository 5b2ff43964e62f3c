"""Which code numbers are of, and what a user meets after an upgrade of the package."""

import json
import re
import subprocess
import sys

import pytest
from bandit import PLAN, bandit_of

from betahead.compare.board import Board
from betahead.compare.code import MODELS, NUMBERS, Code, code_of, files_of
from betahead.compare.comparison import compare, finished_evidence, other_code, storage_of
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.errors import ConfigError

# What no number depends on, beyond what is hashed: errors, what a path means, and how a plan is read.
_INNOCENT = re.compile(r"errors|data(\.paths)?|runs(\..*)?")


def resolved_of():
    return resolve(load_plan(PLAN), bandit_of)


@pytest.fixture
def upgrade(monkeypatch):
    return lambda: monkeypatch.setattr("betahead.__version__", "9.9.9")


def test_the_digest_covers_every_module_that_a_tabular_run_imports():
    source = (
        "import sys, betahead.compare.work, betahead.worlds.tabular_methods\n"
        "print(*(name for name in sys.modules if name.startswith('betahead.')))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    hashed = {str(path.with_suffix("")).replace("/", ".") for path in files_of(NUMBERS)}
    names = {name.removeprefix("betahead.") for name in done.stdout.split()}
    missed = {name for name in names if name not in hashed and f"{name}.__init__" not in hashed}
    assert not [name for name in missed if not _INNOCENT.fullmatch(name)]


def test_what_shows_numbers_decides_none_and_oracles_do():
    names = {path.as_posix() for path in files_of(NUMBERS)}
    assert {"compare/verdict.py", "worlds/oracles.json", "stats/paired.py", "losses/preference.py"} <= names
    assert not names & {"compare/markdown.py", "compare/tables.py", "compare/evidence.schema.json"}
    assert not any(name.startswith("train/") for name in names)


def test_a_language_model_adds_what_trains_it():
    tabular, sequence = code_of(["tabular/uniform"]), code_of(["tabular/uniform", "sequence/grammar"])
    assert tabular.version == sequence.version and tabular.digest != sequence.digest
    assert any(path.as_posix() == "train/trainer.py" for path in files_of(MODELS))


def test_runs_of_two_versions_do_not_mix(tmp_path, upgrade):
    url = f"sqlite:///{tmp_path / 'work.db'}"
    Board(resolved_of(), url).close()
    held = resolved_of().code
    upgrade()
    with pytest.raises(ConfigError) as refused:
        Board(resolved_of(), url)
    assert str(refused.value) == (
        f"The storage must hold runs of this code (betahead 9.9.9, code {held.digest[:12]}), but its runs of the plan "
        f"small are of betahead {held.version}, code {held.digest[:12]}; the two must not be mixed, so go on with that "
        "version, or begin again with another --storage and --output."
    )


def test_the_same_version_with_other_code_does_not_mix_either(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'work.db'}"
    Board(resolved_of(), url).close()
    monkeypatch.setattr("betahead.compare.resolved.code_of", lambda _: Code(version="0.1.0", digest="0" * 64))
    with pytest.raises(ConfigError, match=r"hold runs of this code \(betahead 0\.1\.0, code 000000000000\)"):
        Board(resolved_of(), url)


def test_finished_evidence_is_read_after_an_upgrade_and_says_whose_it_is(tmp_path, upgrade):
    resolved = resolved_of()
    first = compare(resolved, tmp_path, storage_of(tmp_path), "betahead compare small.yaml")
    assert other_code(resolved, first) == []
    assert (first.code.version, first.code.digest) == (resolved.code.version, resolved.code.digest)
    upgrade()
    later = resolved_of()
    again = compare(later, tmp_path, storage_of(tmp_path), "again")
    assert again == first and later.worlds["bandit/one"].calls == []
    (sentence,) = other_code(later, again)
    assert sentence == (
        f"This evidence is of {resolved.code}, and this is {later.code}: nothing was run; give another --output to run "
        "the plan again."
    )


def test_evidence_of_another_form_is_one_sentence(tmp_path):
    resolved = resolved_of()
    compare(resolved, tmp_path, storage_of(tmp_path), "first")
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 3}))
    with pytest.raises(ConfigError) as refused:
        finished_evidence(resolved, tmp_path)
    assert str(refused.value) == (
        f"{path} must have schema_version 4, but has 3, because another version of the package wrote it; keep it for "
        "what it says, and give another --output to run the plan again."
    )
