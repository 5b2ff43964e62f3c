"""The schema of a configuration: what an editor completes, checks and explains while one types."""

import enum
import json
import re
from functools import reduce
from operator import or_
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

from betahead.runs.config import Config
from betahead.runs.train_fields import DEFAULTS, OURS
from betahead.train.arguments import DPOConfig

_ARGUMENT = re.compile(r"^    (?P<names>\w+(?:, \w+)*): (?P<text>.+(?:\n {5,}.+)*)", re.MULTILINE)
_SECTION = re.compile(r"\n\n(?:Args|Raises|Source|Gradient|Deviates|Attributes):\n")


def published_schema() -> str:
    """The JSON Schema of `Config` as it is published, with the words of the docstrings where an editor shows them.

    It is looser than `load_config`: which settings fit together, only that says.
    """
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "A run of BetaHead",
    }
    for section in (schema, *schema["$defs"].values()):
        _explain(section)
    schema["properties"]["train"] = _train(schema["properties"]["train"])
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _explain(section: dict[str, Any]) -> None:
    """Move what a docstring says of its arguments to the keys that they are."""
    text = section.get("description", "")
    properties = section.get("properties", {})
    arguments = text.partition("Args:\n")[2]
    for match in _ARGUMENT.finditer(_SECTION.split("\n\n" + arguments)[0]):
        for name in match["names"].split(", "):
            if name in properties:
                properties[name]["description"] = re.sub(r"\s+", " ", match["text"])
    if text:
        section["description"] = re.sub(r"\s+", " ", _SECTION.split(text)[0]).strip()
    for key in properties.values():
        key.pop("title", None)


def _train(found: dict[str, Any]) -> dict[str, Any]:
    """The section `train`: the fields with a default or a meaning of this package; transformers has the others."""
    types = get_type_hints(DPOConfig)
    properties = {name: TypeAdapter[Any](_plain(types[name])).json_schema() for name in sorted({*DEFAULTS, *OURS})}
    for name, value in DEFAULTS.items():
        properties[name]["default"] = value
    return {
        **{key: value for key, value in found.items() if key != "title"},
        "description": "Fields of transformers.TrainingArguments, by their names, and those that DPOConfig adds.",
        "properties": properties,
    }


def _plain(hint: Any) -> Any:
    """A type without its enumerations, whose members change with the version of transformers."""
    parts = [part for part in get_args(hint) or (hint,) if not (isinstance(part, type) and issubclass(part, enum.Enum))]
    return reduce(or_, parts)
