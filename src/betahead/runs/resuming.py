"""Going on with a run: whether it is the same one, from which checkpoint, and what of its folder is put back."""

import json
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from betahead.errors import ConfigError, DataError
from betahead.runs.build import Fitted, OnFit, fit_prefix, fitted_reference
from betahead.runs.claimed import Claim
from betahead.runs.config import Config, dump_config, load_config
from betahead.runs.corpus import held_out_prompts
from betahead.runs.folder import RunFolder
from betahead.runs.redaction import redacted
from betahead.runs.summary import summary_table
from betahead.runs.yaml_text import read_yaml, short
from betahead.train.whole import checkpoints_in, clear_unfinished, remove, step_of
from betahead.worlds.small_model import FitReport

Say = Callable[[str], None]

_EMPTY = ("checkpoints", "failures")
_MAY_CHANGE = tuple(
    f"train.{name}"
    for name in (
        *("max_batch_tokens", "gradient_checkpointing", "gradient_checkpointing_kwargs", "guards", "on_warning"),
        *("save_steps", "save_strategy", "save_total_limit"),
    )
)
"""What decides neither which pairs a step has nor what it does with them: the remedies of a run that was stopped."""


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """A run that goes on.

    Args:
        folder: of the run.
        checkpoint: the one to go on from; None to begin with the first step.
        before: what run.json said.
        config: the run, as it is asked for now.
        changed: of its keys, those that were not so before, with both values.
    """

    folder: RunFolder
    checkpoint: Path | None
    before: Mapping[str, Any]
    config: Config
    changed: Mapping[str, Mapping[str, Any]]

    @property
    def step(self) -> int:
        """Steps taken before."""
        return 0 if self.checkpoint is None else step_of(self.checkpoint)


def resumption(config: Config, say: Say) -> Resumption | None:
    """What `--resume` goes on with, or None where no run of that folder has begun; nothing is changed.

    Args:
        config: the run, as it is asked for now.
        say: shown a line for every checkpoint that is skipped, and for where the run goes on.

    Raises:
        ConfigError: the folder is that of another run, or this run was configured otherwise.
    """
    path = Path(config.output).expanduser()
    there = [item for item in path.iterdir() if not _is_empty_place(item)] if path.is_dir() else []
    if not there:
        say(f"resume     {config.output} holds nothing yet; the run begins")
        return None
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise ConfigError(
            f"`output` must be the folder of a run to resume, but {path} holds other files instead; correct it "
            "(`output=runs/NAME`), or leave `--resume` out."
        )
    changed = _changed(config, folder)
    before = _record(path / "run.json")
    if folder.finished:
        say(f"resume     {config.output} is finished; there is nothing to resume")
        return Resumption(folder=folder, checkpoint=None, before=before, config=config, changed=changed)
    found = checkpoints_in(folder.checkpoints)
    for checkpoint, problem in found.skipped.items():
        say(f"resume     {checkpoint.name} is skipped, because it {problem}")
    for key, values in changed.items():
        say(f"resume     {key} is {values['now']} from here on, and was {values['was']}")
    made = Resumption(folder=folder, checkpoint=found.last, before=before, config=config, changed=changed)
    say(
        f"resume     {config.output} goes on after step {made.step:,}"
        if found.last
        else f"resume     {config.output} holds no whole checkpoint; the run begins again"
    )
    return made


def _record(path: Path) -> Mapping[str, Any]:
    """What run.json says, as far as a resumption relies on it; nothing where the run was killed before it stood there.

    Raises:
        DataError: it is no such record.
    """
    if not path.exists():
        return {}
    try:
        record = RunFolder(path.parent).record
        sources = [str(one["source"]) for one in dict(record["data"]).values()]
        if not (sources and isinstance(record.get("resumptions", []), list)):
            raise TypeError("it names no data")
        if record.get("fit") is not None:
            FitReport(**record["fit"])
        _ = {**record.get("software", {}).get("packages", {})}  # which the model card lists at the end
        return record
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"`{path}` must be the record of the run to resume, but cannot be read ({' '.join(str(error).split())}); "
            "restore it, or begin a new run in another `output`."
        ) from None


def finished_summary(folder: RunFolder) -> dict[str, Any]:
    """The content of a finished run's summary.json, which can be shown.

    Raises:
        DataError: it cannot.
    """
    try:
        summary_table(folder.summary, str(folder.path))
        return folder.summary
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"`{folder.path / 'summary.json'}` must say what the finished run came to, but cannot be read "
            f"({' '.join(str(error).split())}); restore it, or begin a new run in another `output`."
        ) from None


def clear_empty_places(path: Path) -> None:
    """Remove from a folder without a run what a process left that was killed while it made one there."""
    for item in path.iterdir() if path.is_dir() else ():
        if _is_empty_place(item):
            _removed(item)


def check_same_data(before: Mapping[str, Any], now: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse data that are not those that the run began with.

    Args:
        before: what run.json said.
        now: the fingerprints by role, as they are now.

    Raises:
        DataError: for the first that differs.
    """
    for role, old in cast("Mapping[str, Mapping[str, str]]", before.get("data", {})).items():
        new = now.get(role, {})
        # The fingerprint that `datasets` made says less than the rows, which can change under it.
        kind = "sha256" if "sha256" in old else "fingerprint"
        if old.get(kind) != new.get(kind):
            key = "model.fit.corpus" if role == "corpus" else f"data.{role}"
            what = "other Arrow files" if {"sha256", "fingerprint"} <= set(old) else "another content"
            raise DataError(
                f"`{key}` must hold what the run to resume began with, but {old['source']} has {what} now "
                f"({kind} {str(new.get(kind))[:12]}… instead of {str(old.get(kind))[:12]}…); restore it, or "
                "begin a new run in another `output`."
            )


def clear_fits(output: Path) -> None:
    """Remove references that a killed process was fitting for a run of this folder."""
    above = next(folder for folder in output.absolute().parents if folder.is_dir())
    for left in above.glob(f"{fit_prefix(output)}*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def reference_of(
    config: Config, near: Path, resumed: Resumption | None, *, on_progress: OnFit | None = None
) -> Generator[Fitted | None]:
    """The reference of `model.fit`: that which the run has kept, or else a new one, see `build.fitted_reference`."""
    if config.model.fit is None or resumed is None or resumed.checkpoint is None:
        with fitted_reference(config, near, on_progress=on_progress) as fitted:
            yield fitted
        return
    held_out = frozenset(held_out_prompts(config.data, config.seed))
    yield Fitted(folder=resumed.folder.path / "reference", report=FitReport(**resumed.before["fit"]), held_out=held_out)


@contextmanager
def going_on(resumed: Resumption, record: dict[str, Any]) -> Generator[Claim]:
    """The folder of the run, put back to where it goes on; it stays whatever happens."""
    put_back(resumed, record)
    yield Claim(folder=resumed.folder, kept=True)


def put_back(resumed: Resumption, record: dict[str, Any]) -> None:
    """Let the folder say what it said at the checkpoint, and note the resumption in run.json.

    Args:
        resumed: the run; without a checkpoint nothing of it stays but its record.
        record: what run.json would say of a run that began now.
    """
    folder = resumed.folder
    half = clear_unfinished(folder.checkpoints)
    noted = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "after_step": resumed.step,
        "half_written_checkpoints": [path.name for path in half],
        "changed": resumed.changed,
        **{name: record[name] for name in ("command", "software", "hardware")},
    }
    kept = {**record, **resumed.before}
    folder.write_record({**kept, "resumptions": [*kept.get("resumptions", []), noted]})
    if resumed.changed:
        folder.write_config(dump_config(resumed.config))
    if resumed.checkpoint is None:
        for item in folder.path.iterdir():
            if item.name not in ("config.yaml", "run.json", *_EMPTY):
                _removed(item)
        for place in _EMPTY:
            _removed(folder.path / place)
            (folder.path / place).mkdir()
        return
    for damaged in checkpoints_in(folder.checkpoints).damaged:
        remove(damaged)
    state = json.loads((resumed.checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    folder.keep_metrics(state["log_history"])
    folder.samples.unlink(missing_ok=True)
    for made_at_the_end in (folder.policy, folder.adapter):  # written again, and a merged one would mix with it
        _removed(made_at_the_end)


def _removed(item: Path) -> None:
    if item.is_dir() and not item.is_symlink():
        shutil.rmtree(item)
    else:
        item.unlink(missing_ok=True)


def _is_empty_place(item: Path) -> bool:
    """Made for a run that was killed before it had written anything."""
    torn = item.name.startswith((".config.yaml.", ".run.json."))
    return torn or (item.name in _EMPTY and item.is_dir() and not any(item.iterdir()))


def _changed(config: Config, folder: RunFolder) -> dict[str, dict[str, str]]:
    """The keys that say something else than in the run's configuration, but for where the run lies.

    Raises:
        ConfigError: for one that makes it another run.
    """
    before, now = _leaves(load_config(folder.config)), _leaves(config)
    changed: dict[str, dict[str, str]] = {}
    for key in (*now, *(key for key in before if key not in now)):
        if key == "output" or (key in before and key in now and before[key] == now[key]):
            continue
        old, new = (short(leaves[key]) if key in leaves else "left out" for leaves in (before, now))
        if not any(key == one or key.startswith(f"{one}.") for one in _MAY_CHANGE):
            raise ConfigError(
                f"`{key}` must be {old} as in {folder.config}, to resume that run, but is {new} instead; change it "
                "back, or choose another `output`."
            )
        changed[key] = {"was": old, "now": new}
    return changed


def _leaves(config: Config) -> dict[str, Any]:
    """The values by dotted key, as config.yaml keeps them: without secrets."""
    found: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, inner in cast("dict[str, Any]", value).items():
                walk(f"{prefix}.{name}" if prefix else name, inner)
        else:
            found[prefix] = value

    walk("", read_yaml(redacted(dump_config(config))).values)
    return found
