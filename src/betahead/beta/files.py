"""A rule on disk: `beta_head.json` says what it is, `beta_head.safetensors` holds its numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from betahead.beta.rule import BetaRule
from betahead.beta.table import RULES
from betahead.errors import DataError

WEIGHTS = "beta_head.safetensors"
SETTINGS = "beta_head.json"
_SCHEMA = 1
_VECTORS = ("head.log_level", "head.exponent")


def save_rule(rule: BetaRule, folder: Path, *, hidden_size: int, state: Mapping[str, Tensor] | None = None) -> None:
    """Write the rule's settings and state into an existing folder.

    Args:
        rule: built.
        folder: where to.
        hidden_size: width of the policy that it was built for.
        state: its numbers, where it has only a part of them itself.
    """
    settings = {"schema": _SCHEMA, "kind": rule.kind, "hidden_size": hidden_size, "settings": rule.settings}
    held = rule.state_dict() if state is None else state
    state = {name: value.detach().cpu().contiguous() for name, value in held.items()}
    # Not `save_file`, whose file nobody but its owner may read, whatever the umask says.
    (folder / WEIGHTS).write_bytes(save(state, metadata={"format": "pt"}))
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_rule(folder: Path) -> BetaRule:
    """The rule of a folder, built and with its numbers.

    Raises:
        DataError: when the files are missing, broken, or of a kind or schema that this version does not know.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise DataError(f"`{folder}` must hold {SETTINGS}, but does not; point to the folder of a finished run.")
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        schema, kind, hidden_size = described["schema"], described["kind"], int(described["hidden_size"])
        settings = dict(described["settings"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = repr(error)[:200]  # of text that is no UTF-8 it holds all of it
        raise DataError(f"`{path}` must describe a beta rule, but is broken ({said}); restore it.") from error
    if schema != _SCHEMA or kind not in RULES:
        raise DataError(f"`{path}` must be of schema {_SCHEMA} and a known kind, but is {schema}, {kind!r} instead.")
    try:
        rule = _rule(kind, settings)
    except (TypeError, KeyError) as error:
        raise DataError(f"`{path}` must hold the settings of a {kind} rule, but does not ({error}).") from error
    rule.build(hidden_size, seed=0)
    load_state(rule, folder)
    return rule


def _rule(kind: str, settings: Mapping[str, Any]) -> BetaRule:
    """The rule of that kind, with the rule inside of it made first."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    if isinstance(inner := given.get("of"), dict):
        given["of"] = _rule(inner["kind"], inner["settings"])
    return RULES[kind](**given)


def load_state(rule: BetaRule, folder: Path) -> None:
    """Fill a built rule with the numbers of a folder.

    Raises:
        DataError: when the weights are missing or belong to another rule.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise DataError(f"`{folder}` must hold {WEIGHTS}, but does not; the checkpoint is incomplete.")
    try:
        rule.load_state_dict(_as_vectors(load_file(weights)))
    except Exception as error:
        raise DataError(f"`{weights}` must fit the rule {rule.kind}, but does not ({error}).") from error


def _as_vectors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Older folders have the head's level and exponent as scalars."""
    return {name: value.reshape(1) if name.endswith(_VECTORS) else value for name, value in state.items()}
