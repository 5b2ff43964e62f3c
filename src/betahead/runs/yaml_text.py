"""YAML as people write it: read with the place of every key, written so that it reads back equal.

The scalars are those of YAML 1.2: `1e-5` is a number and `no` is text (in YAML 1.1, PyYAML's default, it is the other
way round, and a learning rate silently becomes a string). Keys are text and given once. Aliases, which can unfold to
billions of values, and tags, which can name code, are refused; so is what is larger or deeper than any configuration.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from betahead.data.paths import path_kind
from betahead.errors import BetaHeadError, ConfigError, DataError
from betahead.runs.redaction import redacted

KeyPath = tuple[str, ...]

# The largest configuration of this package has a few thousand characters; PyYAML reads a hundred thousand in a second.
_LARGEST = 2**18
_DEEPEST = 50
# Larger numbers are no float64, and no setting is one.
_LONGEST_BITS = 1000

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
    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        # PyYAML looks ahead over brackets in quadratic time.
        if self.flow_level >= _DEEPEST:
            raise yaml.MarkedYAMLError(None, None, f"brackets stand in {_DEEPEST} others", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases (`*name`) are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _refused("tags (`!name`) are not allowed", event)
        return super().compose_node(parent, index)


def _refused(problem: str, at: yaml.Event | yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, at.start_mark)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= _LONGEST_BITS else None
    if number is None or number.bit_length() > _LONGEST_BITS:
        raise _refused("it holds an integer that is too large for any setting", node)
    return number


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if any("\ud800" <= mark <= "\udfff" for mark in text):
        raise _refused("it holds half of a surrogate pair, which is no character", node)
    return text


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
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Dumper.add_representer(str, _text_node)


def read_yaml(source: Path | str) -> Document:
    """The document in a file (a path) or in a text.

    Raises:
        ConfigError: for a file that cannot be read, malformed YAML, a key given twice, a text without sections.
    """
    name = source.name if isinstance(source, Path) else "configuration"
    if isinstance(source, str) and len(source) > _LARGEST:
        raise ConfigError(f"{name}: the text must have at most {_LARGEST:,} characters, but has {len(source):,}.")
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
    """The value as a message shows it: its Python form, secrets blotted out, cut after 80 characters."""
    text = redacted(repr(value))
    return text if len(text) <= 80 else text[:77] + "..."


def _text_of(path: Path) -> str:
    try:
        kind = path_kind(path, str(path))
    except DataError as error:
        raise ConfigError(str(error)) from None
    problem = {"folder": "is a folder", "nothing": "does not exist", "device": "is a pipe or a device"}.get(kind, "")
    if not problem:
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST + 1)
            if len(content) <= _LARGEST:
                return content.decode("utf-8-sig")
            problem = f"has more than {_LARGEST // 2**10} KiB"
        except UnicodeDecodeError as error:
            problem = f"is not text in UTF-8 (byte {error.start})"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
    raise ConfigError(f"{path} must be a configuration file in YAML, but {problem}.")


def _parsed(text: str, document: Document) -> Any:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return None if root is None else _value(loader, root, (), document)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or "it cannot be parsed").removeprefix("but ").replace("<stream end>", "the end")
        raise ConfigError(f"{_line(document, mark)}: the YAML must be well formed, but {problem}.") from error
    except yaml.YAMLError as error:  # of the reader: a character that YAML forbids
        character = getattr(error, "character", 0)
        raise ConfigError(
            f"{document.source}: the YAML must be text, but holds the control character U+{character:04X}."
        ) from error
    except RecursionError:
        raise ConfigError(f"{document.source}: the YAML must be sections of keys, but is nested too deeply.") from None
    except BetaHeadError:
        raise
    except (ValueError, OverflowError):  # of an escape such as \UFFFFFFFF, which PyYAML does not check
        mark = None if loader is None else loader.get_mark()
        raise ConfigError(
            f"{_line(document, mark)}: the YAML must be well formed, but an escape or a version there is no number "
            "that YAML allows."
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _line(document: Document, mark: yaml.Mark | None) -> str:
    return document.source if mark is None else f"{document.source}, line {mark.line + 1}"


def _value(loader: _Loader, node: yaml.Node, path: KeyPath, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _line(document, key_node.start_mark)
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                shown = short(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or a section"
                raise ConfigError(f"{place}: a key must be text, but is {shown} instead; quote it.")
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
