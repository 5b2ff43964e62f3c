"""What was run: configuration, data, versions, hardware, and the command that repeats it, run beside run."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from betahead.report.html import Html, element, joined
from betahead.report.numbers import NONE, count, shown
from betahead.report.run_files import Row, RunFiles, at, listed, mapped
from betahead.report.tables import details, table

_DIGEST = 12


def facts(runs: Sequence[RunFiles]) -> Html:
    """The facts of all runs, what differs between their configurations, and each in full."""
    rows = [(label, [_text(value(run)) for run in runs]) for label, value in _FACTS]
    commands = {run.name: command for run in runs if (command := str(run.record.get("command") or ""))}
    full = [
        details(f"config.yaml of {run.name}" if len(runs) > 1 else "config.yaml", element("pre", run.config_text))
        for run in runs
        if run.config_text
    ]
    return joined(
        described([(label, values[0]) for label, values in rows]) if len(runs) == 1 else _several(runs, rows),
        _differences(runs),
        _repeat(commands) if commands else None,
        *full,
    )


def described(rows: Sequence[Sequence[str]]) -> Html:
    """Labels with their values, as many beside each other as there is room for."""
    return element(
        "dl",
        (element("div", element("dt", label), element("dd", value)) for label, value in rows if value != NONE),
        class_="facts",
    )


def _several(runs: Sequence[RunFiles], rows: Sequence[tuple[str, Sequence[str]]]) -> Html:
    """The facts of several runs in a table; what they have in common is said once."""
    common = [(label, values[0]) for label, values in rows if len(set(values)) == 1]
    apart = [[label, *values] for label, values in rows if len(set(values)) > 1]
    return joined(
        table(["", *(run.name for run in runs)], apart, texts=range(1, len(runs) + 1)) if apart else None,
        element("h3", "The same in all runs") if common else None,
        described(common) if common else None,
    )


def _repeat(commands: Mapping[str, str]) -> Html:
    """The command of each run; one that made several stands once."""
    names: dict[str, list[str]] = {}
    for name, command in commands.items():
        names.setdefault(command, []).append(name)
    return joined(
        element("h3", "Repeat it"),
        *(
            joined(element("h4", ", ".join(of)) if len(names) > 1 else None, element("pre", command, class_="command"))
            for command, of in names.items()
        ),
        element(
            "p",
            "In the folder that it was started from, with the same data. Training config.yaml again, with another "
            "output, repeats a run too: ",
            element("code", "betahead train config.yaml output=OTHER"),
            class_="quiet",
        ),
    )


def _differences(runs: Sequence[RunFiles]) -> Html | None:
    """Keys of the configuration whose values are not the same everywhere."""
    known = [run for run in runs if run.config]
    if len(known) < 2:
        return None
    flat = [_flat(run.config) for run in known]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if key != "output"]
    rows = [
        [key, *(_text(one.get(key)) for one in flat)]
        for key in keys
        if any(one.get(key) != flat[0].get(key) for one in flat)
    ]
    if not rows:
        return element("p", "The configurations are the same but for the folder of the run.", class_="note")
    return joined(
        element("h3", "What differs between the configurations"),
        table(["key", *(run.name for run in known)], rows, texts=range(1, len(known) + 1)),
    )


def _flat(tree: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _flat(cast("dict[str, Any]", value), f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found


def _text(value: Any) -> str:
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def method(run: RunFiles) -> str:
    """β, its way of learning and the loss in a few words."""
    kind, loss = run.of("beta", "kind"), run.of("loss", "kind")
    if kind is None:
        return ""
    how = run.of("beta", "learning", "kind")
    level = run.of("beta", "beta") if kind == "fixed" else run.of("beta", "initial_beta")
    words = [
        f"{kind} β",
        f", {how}" if how else "",
        "" if level is None else f" ({'β' if kind == 'fixed' else 'β₀'} = {level})",
    ]
    losses = " + ".join(map(str, listed(loss))) if isinstance(loss, list) else str(loss or "sigmoid")
    return f"{''.join(words)}, loss {losses}"


def _data(run: RunFiles) -> str:
    found = mapped(run.record.get("data"))
    parts: list[str] = []
    for role, one in found.items():
        digest = at(one, "sha256") or at(one, "fingerprint")
        parts.append(f"{role}: {at(one, 'source')}" + (f" ({str(digest)[:_DIGEST]})" if digest else ""))
    return "; ".join(parts)


def _pairs(run: RunFiles) -> str:
    trained, held = at(run.summary, "pairs", "train"), at(run.summary, "pairs", "held_out")
    return "" if trained is None else f"{count(trained)} to train on, {count(held)} held out"


def _steps(run: RunFiles) -> str:
    steps = [row["step"] for row in run.metrics if isinstance(row.get("step"), int)]
    epochs = next((row["epoch"] for row in reversed(run.metrics) if isinstance(row.get("epoch"), int | float)), None)
    return "" if not steps else f"{max(steps):,}" + ("" if epochs is None else f" ({shown(epochs)} epochs)")


def _optimizer(run: RunFiles) -> str:
    train = run.of("train")
    if not isinstance(train, dict):
        return ""
    words = [
        f"{at(train, 'optim')}",
        f"learning rate {at(train, 'learning_rate')}",
        f"{at(train, 'lr_scheduler_type')}",
    ]
    batch, times = at(train, "per_device_train_batch_size"), at(train, "gradient_accumulation_steps")
    words.append(f"{batch} pairs a device" + (f" × {times}" if times else ""))
    return ", ".join(word for word in words if "None" not in word)


def software_and_hardware(record: Row) -> list[list[str]]:
    """Two rows of a table: the versions and the machine that a record names."""
    return [["hardware", _hardware(record)], ["versions", _versions(record)]]


def _versions(record: Row) -> str:
    packages = at(record, "software", "packages")
    python = at(record, "software", "python")
    if not isinstance(packages, dict):
        return ""
    return ", ".join([*(f"{name} {one}" for name, one in mapped(packages).items()), f"Python {python}"])


def _hardware(record: Row) -> str:
    hardware = record.get("hardware")
    if not isinstance(hardware, dict):
        return ""
    gpus = listed(at(hardware, "gpus"))
    names = ", ".join(str(at(gpu, "name") or gpu) for gpu in gpus)
    return (
        f"{at(hardware, 'device')}{f' ({names})' if names else ''}, {at(hardware, 'cpus')} CPUs, "
        f"{at(hardware, 'memory_gib')} GiB"
    )


def _parameters(run: RunFiles) -> str:
    found = run.summary.get("parameters")
    if not isinstance(found, dict):
        return ""
    return (
        f"{count(at(found, 'trained'))} of {count(at(found, 'total'))} trained, {count(at(found, 'beta_head'))} in "
        "the BetaHead"
    )


def _took(run: RunFiles) -> str:
    seconds = run.summary.get("seconds")
    training = at(run.summary, "train", "train_runtime")
    return "" if seconds is None else f"{shown(seconds)} s in all, {shown(training)} s training"


def _started(run: RunFiles) -> str:
    text = str(run.record.get("started") or "")
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z")
    except ValueError:
        return text


_FACTS: Sequence[tuple[str, Callable[[RunFiles], Any]]] = (
    ("method", method),
    ("model", lambda run: run.of("model", "name") or ("fitted on the spot" if run.of("model", "fit") else None)),
    ("adapter", lambda run: run.of("model", "adapter", "kind")),
    ("data", _data),
    ("pairs", _pairs),
    ("steps", _steps),
    ("optimizer", _optimizer),
    ("parameters", _parameters),
    ("seed", lambda run: run.record.get("seed", run.of("seed"))),
    ("started", _started),
    ("time", _took),
    ("hardware", lambda run: _hardware(run.record)),
    ("versions", lambda run: _versions(run.record)),
    ("folder", lambda run: run.path),
)
