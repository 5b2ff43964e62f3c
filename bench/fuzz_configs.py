"""Configurations and plans that are nearly right: the project's own, with a few keys, values or letters changed."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bench.fuzz_rows import ANY_TEXT, DEEP, JSON_VALUES
from betahead.runs.presets import FOLDER
from betahead.runs.yaml_text import read_yaml

PLANS = Path(__file__).parents[1] / "configs" / "compare"
_WORDS = (
    *(
        "auto",
        "none",
        "live",
        "learned",
        "fixed",
        "joint",
        "perspective",
        "heldout",
        "budget",
        "sigmoid",
        "ipo",
        "lora",
    ),
    *(
        "linear",
        "mlp",
        "transformer",
        "train",
        "small",
        "separate",
        "shared",
        "adamw_torch",
        "cosine",
        "kind",
        "float16",
    ),
    *("../../x", "/dev/zero", "/etc/passwd", "~nobody/x", "$UNSET_VARIABLE/x", "a\0b", "x" * 300, "org/name", ".", "/"),
    *("tabular/half_noise", "tabular/", "sequence/x", "reward", "mechanism", "better", "hf_" + "a1" * 15),
)
_VALUES = st.one_of(
    st.sampled_from(_WORDS),
    st.sampled_from([0, 1, -1, 2, 3.5, 1e-30, 1e30, 2**70, True, False, None, [], {}, [1, 2], {"kind": "fixed"}, 0.1]),
    st.floats(),
    JSON_VALUES,
    DEEP,
)
_KEYS = st.one_of(st.sampled_from(("kind", "beta", "model", "data", "train", "seed", "output", *_WORDS)), ANY_TEXT)
_LINES = st.sampled_from(
    [
        "a: &x [1]\nb: *x",
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "!!set {a}",
        "a: !!int x",
        "a: !!timestamp x",
        "a: !!bool x",
        "- " * 2000 + "x",
        "{" * 2000,
        "a: '",
        'a: "\\UFFFFFFFF"',
        'a: "\\ud800"',
        "%YAML 9.9\n---",
        f"%YAML 1.{'9' * 5000}\n---",
        "? ? ? x",
        "a: " + "9" * 5000,
        "a: 0x" + "f" * 5000,
        "a: 1e999999",
        "<<: {a: 1}",
        "\t",
        "---\n---",
        "...",
        "a: |\n  x",
        "\x00",
        "\x85",
        "\ud800",
        "\ufeff",
    ]
)


def presets() -> dict[str, dict[str, Any]]:
    """The values of every preset, without the half precision that only a GPU has."""
    found = {path.stem: read_yaml(path).values for path in sorted(FOLDER.glob("*.yaml"))}
    return {name: {**values, "train": {**values["train"], "bf16": False}} for name, values in found.items()}


def plans() -> dict[str, dict[str, Any]]:
    """The values of every plan, with two cells each: more of the same would only take time."""
    found = {path.stem: read_yaml(path).values for path in sorted(PLANS.glob("*.yaml"))}
    return {name: {**values, "cells": values["cells"][:2]} for name, values in found.items() if name != "sequence"}


@st.composite
def changed(draw: st.DrawFn, whole: dict[str, Any], most: int = 3) -> str:
    """The values with one to `most` changes, as YAML in its JSON form."""
    tree = deepcopy(whole)
    for _ in range(draw(st.integers(1, most))):
        holder, key = draw(st.sampled_from(_places(tree)))
        change = draw(st.integers(0, 4))
        if change <= 2:
            holder[key] = draw(_VALUES)
        elif change == 3:
            value = holder.pop(key)
            if isinstance(holder, dict):
                holder[draw(_KEYS)] = value
        elif isinstance(holder, dict):
            holder[draw(_KEYS)] = draw(_VALUES)
    return json.dumps(tree)


@st.composite
def scribbled(draw: st.DrawFn, text: str) -> str:
    """The text with a few lines or letters put in, taken out or doubled."""
    lines = text.split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(lines) - 1)))
        change = draw(st.integers(0, 4))
        if change == 0:
            lines.insert(at, draw(_LINES))
        elif change == 1:
            lines[at] = lines[at] + draw(ANY_TEXT)
        elif change == 2:
            lines.insert(at, lines[at])
        elif change == 3 and len(lines) > 1:
            del lines[at]
        else:
            lines[at] = draw(st.sampled_from(["  ", " ", "- ", "\t", ""])) + lines[at].lstrip()
    return "\n".join(lines)


def any_text() -> st.SearchStrategy[str]:
    """Text of no kind at all."""
    return st.one_of(ANY_TEXT, st.lists(st.one_of(_LINES, ANY_TEXT), max_size=5).map("\n".join), JSON_VALUES.map(str))


def overrides() -> st.SearchStrategy[list[str]]:
    """Words of a command line that may be overrides."""
    path = st.lists(st.one_of(_KEYS, st.sampled_from(["learning", "net", "fit", "adapter", "1"])), max_size=4)
    word = st.tuples(path.map(".".join), st.one_of(_LINES, ANY_TEXT, _VALUES.map(json.dumps))).map("=".join)
    return st.lists(st.one_of(word, ANY_TEXT), max_size=4)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every key and every item of the tree, with what holds it."""
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        inside = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, value in inside:
            found.append((holder, key))
            waiting.append(value)
    return found or [({"nothing": None}, "nothing")]
