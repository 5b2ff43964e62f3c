"""What is wrong with a configuration, as one sentence: file and line, key, value, remedy."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from betahead.errors import ConfigError
from betahead.runs.redaction import BLOT, names_secret, redacted
from betahead.runs.yaml_text import Document, KeyPath, short

_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text of the form {pattern}",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "union_tag_invalid": "one of {expected_tags}",
}


def complaint(error: ValidationError, document: Document, root: type[BaseModel]) -> str:
    """The sentence for the first mistake; a misspelt key goes before what its absence caused."""
    details = error.errors(include_url=False)
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    path, model = _place(first["loc"], root)
    if first["type"] == "extra_forbidden":
        sentence = _unknown_key(path, model)
    elif first["type"] == "missing":
        sentence = f"`{'.'.join(path)}` is missing; add it."
    elif first["type"] == "union_tag_not_found":
        path, kinds = (*path, "kind"), ", ".join(_kinds(model, path[-1]))
        sentence = f"`{'.'.join(path)}` is missing; say one of {kinds}."
    else:
        path, sentence = _wrong_value(first, path)
    return redacted(f"{document.origin(path)}: {sentence}")


def _wrong_value(detail: ErrorDetails, path: KeyPath) -> tuple[KeyPath, str]:
    context = detail.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ConfigError):  # a component's own sentence, which names its key
        return _own_sentence(str(cause), path)
    if cause is not None:
        expected = str(cause)
    elif detail["type"] in _EXPECTED:
        expected = _EXPECTED[detail["type"]].format(**{key: _plain(value) for key, value in context.items()})
    else:
        expected = f"valid ({detail['msg']})"
    value = context["tag"] if detail["type"] == "union_tag_invalid" else detail["input"]
    path = (*path, "kind") if detail["type"] == "union_tag_invalid" else path
    shown = BLOT if names_secret(path[-1]) else short(value)
    return path, f"`{'.'.join(path)}` must be {expected}, but is {shown} instead."


def _own_sentence(sentence: str, path: KeyPath) -> tuple[KeyPath, str]:
    """The sentence with its key made absolute: components below `runs` may know their keys without the section."""
    match = re.match(r"`([\w.]+)`", sentence)
    if match is None:
        return path, sentence
    key = tuple(match[1].split("."))
    if path and key[0] != path[0]:
        key = (*path, *key)
    return key, f"`{'.'.join(key)}`{sentence[match.end() :]}"


def _unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    known = list(model.model_fields)
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    remedy = f"did you mean `{near[0]}`?" if near else f"the keys there are {', '.join(known)}."
    section = f"a key of `{'.'.join(path[:-1])}`" if path[:-1] else "a section of the configuration"
    return f"`{'.'.join(path)}` is not {section}; {remedy}"


def _plain(value: object) -> str:
    """Pydantic quotes names ('a', 'b' or 'c'); numbers come as floats."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).replace("'", "").replace(" or ", ", ")


def _place(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[KeyPath, type[BaseModel]]:
    """The keys of a location without the names of kinds that pydantic puts between them, and the innermost section."""
    model, path, candidates = root, (), (root,)
    for number, part in enumerate(loc):
        if isinstance(part, int) and (candidates or any(isinstance(later, str) for later in loc[number:])):
            path = (*path, str(part))  # a section in a list
            continue
        if len(candidates) > 1:  # the part is the kind that was chosen, not a key
            model = next(one for one in candidates if part in get_args(one.model_fields["kind"].annotation))
            candidates = (model,)
            continue
        if not isinstance(part, str):
            break
        path = (*path, part)
        candidates = _sections(model.model_fields.get(part))
        if len(candidates) == 1:
            model = candidates[0]
    return cast("KeyPath", path), model


def _sections(field: FieldInfo | None) -> tuple[type[BaseModel], ...]:
    annotation: Any = None if field is None else field.annotation
    parts = get_args(annotation) or (annotation,)
    return tuple(part for part in parts if isinstance(part, type) and issubclass(part, BaseModel))


def _kinds(model: type[BaseModel], key: str) -> list[str]:
    return [
        str(kind)
        for one in _sections(model.model_fields.get(key))
        for kind in get_args(one.model_fields["kind"].annotation)
    ]
