"""YAML as people write it: read with the place of every key, written so that it reads back equal.

The scalars are those of YAML 1.2: `1e-5` is a number and `no` is text (in YAML 1.1, PyYAML's default, it is the other
way round, and a learning rate silently becomes a string). Keys are text and given once; aliases are refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from betahead.errors import ConfigError

KeyPath = tuple[str, ...]

_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
)


@dataclass(frozen=True)
class Document:
    """The values of a configuration, and where each was written.

    Args:
        values: nested mappings with text keys.
        source: what to call the text in a message: the file's name, or "configuration".
        origins: place of every key, such as "dpo.yaml, line 3"; overrides put "command line" there.
    """

    values: dict[str, Any]
    source: str
    origins: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])

    def origin(self, path: KeyPath) -> str:
        """Where the key was written, or the nearest section around it that was."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.source


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(None, None, "aliases (`*name`) are not allowed", event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML folds Unicode's own line breaks in every style but the double-quoted one, which escapes them.
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029\ufeff") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Loader.yaml_implicit_resolvers = {}
_Dumper.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Dumper.add_representer(str, _text_node)


def read_yaml(source: Path | str) -> Document:
    """The document in a file (a path) or in a text.

    Raises:
        ConfigError: for a file that cannot be read, malformed YAML, a key given twice, a text without sections.
    """
    name = source.name if isinstance(source, Path) else "configuration"
    document = Document(values={}, source=name)
    values = _parsed(_text_of(source) if isinstance(source, Path) else source, document)
    if not isinstance(values, dict):
        raise ConfigError(
            f"{name}: the configuration must be a mapping of sections such as `model:` and `data:`, "
            f"but is {short(values)} instead."
        )
    document.values.update(cast("dict[str, Any]", values))
    return document


def parse_value(text: str, where: str) -> Any:
    """The value of one override, read as YAML (so `1e-5`, `null`, `[1, 2]` and `{a: 1}` mean what they say)."""
    return _parsed(text, Document(values={}, source=where))


def to_yaml(values: Mapping[str, Any]) -> str:
    """The text that `read_yaml` reads back as the same values, keys in their order."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def short(value: object) -> str:
    """The value as a message shows it: its Python form, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except IsADirectoryError:
        problem = "is a folder"
    except FileNotFoundError:
        problem = "does not exist"
    except UnicodeDecodeError as error:
        problem = f"is not text in UTF-8 (byte {error.start})"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise ConfigError(f"{path} must be a configuration file in YAML, but {problem}.")


def _parsed(text: str, document: Document) -> Any:
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            return None if root is None else _value(loader, root, (), document)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "it cannot be parsed").removeprefix("but ").replace("<stream end>", "the end")
        raise ConfigError(f"{_line(document, mark)}: the YAML must be well formed, but {problem}.") from error
    except yaml.YAMLError as error:  # of the reader: a character that YAML forbids
        character = getattr(error, "character", 0)
        raise ConfigError(
            f"{document.source}: the YAML must be text, but holds the control character U+{character:04X}."
        ) from error


def _line(document: Document, mark: yaml.Mark | None) -> str:
    return document.source if mark is None else f"{document.source}, line {mark.line + 1}"


def _value(loader: _Loader, node: yaml.Node, path: KeyPath, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _line(document, key_node.start_mark)
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise ConfigError(f"{place}: a key must be text, but is {short(key_node.value)} instead; quote it.")
            here = (*path, key)
            if key in values:
                raise ConfigError(
                    f"{place}: `{'.'.join(here)}` must be given once, but stands at {document.origins[here]} already."
                )
            document.origins[here] = place
            values[key] = _value(loader, value_node, here, document)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, (*path, str(number)), document) for number, item in enumerate(node.value)]
    return loader.construct_object(node)
