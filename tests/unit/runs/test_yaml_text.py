"""YAML as people write it."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from betahead.errors import ConfigError
from betahead.runs.yaml_text import read_yaml, to_yaml

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_every_value_reads_back_as_it_was_written(values):
    assert read_yaml(to_yaml(values)).values == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-7", 5e-7),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-1.", -1.0),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text, value):
    read = read_yaml(f"a: {text}").values["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "configuration, line 2: `a` must be given once, but stands at configuration, line 1 already."),
        (
            "a:\n  b: 1\n  c: 2\n  b: 3",
            "configuration, line 4: `a.b` must be given once, but stands at configuration, line 2 already.",
        ),
        ("a: [1,\nb: 2", "configuration, line 2: the YAML must be well formed, but expected ',' or ']', but got"),
        ("a: 1\n b: 2", "configuration, line 2: the YAML must be well formed, but mapping values are not allowed here"),
        ("a:\n\t- 1", "configuration, line 2: the YAML must be well formed, but found character '\\t' that cannot"),
        ("a: &x 1\nb: *x", "configuration, line 2: the YAML must be well formed, but aliases (`*name`) are not allow"),
        ("a: &x [*x]", "configuration, line 1: the YAML must be well formed, but aliases (`*name`) are not allowed"),
        ("a: 1\n---\nb: 2", "configuration, line 2: the YAML must be well formed, but found another document."),
        (
            "a: !!python/object:os.system 1",
            "configuration, line 1: the YAML must be well formed, but tags (`!name`) are",
        ),
        ("a: !!python/object/apply:os.system [x]", "configuration, line 1: the YAML must be well formed, but tags"),
        ("a:\n  - !!python/name:os.system", "configuration, line 2: the YAML must be well formed, but tags (`!name`)"),
        ("a: !x {b: 1}", "configuration, line 1: the YAML must be well formed, but tags (`!name`) are not allowed."),
        ("a: !!int x", "configuration, line 1: the YAML must be well formed, but tags (`!name`) are not allowed."),
        ("- " * 3000 + "x", "configuration: the YAML must be sections of keys, but is nested too deeply."),
        ("a: " + "{" * 3000, "configuration, line 1: the YAML must be well formed, but brackets stand in 50 others."),
        ("a: 1\nb: " + "9" * 5000, "configuration, line 2: the YAML must be well formed, but it holds an integer that"),
        (
            "a: 0x" + "f" * 900,
            "configuration, line 1: the YAML must be well formed, but it holds an integer that is too",
        ),
        ('a: "\\ud800"', "configuration, line 1: the YAML must be well formed, but it holds half of a surrogate pair"),
        (
            'a: "\\UFFFFFFFF"',
            "configuration, line 1: the YAML must be well formed, but an escape or a version there is",
        ),
        (f"%YAML 1.{'9' * 5000}\n---\na: 1", "configuration, line 1: the YAML must be well formed, but an escape or a"),
        ("a: " + "x" * 2**18, "configuration: the text must have at most 262,144 characters, but has 262,147."),
        ("a: \x00", "configuration: the YAML must be text, but holds the control character U+0000."),
        ("1: 2", "configuration, line 1: a key must be text, but is '1' instead; quote it."),
        ("? [a]\n: 1", "configuration, line 1: a key must be text, but is"),
        (
            "",
            "configuration: the configuration must be a mapping of sections such as `model:` and `data:`, but is None",
        ),
        (
            "mine.yaml",
            "configuration: the configuration must be a mapping of sections such as `model:` and `data:`, but",
        ),
    ],
)
def test_malformed_yaml_is_one_sentence_with_its_line(text, message):
    with pytest.raises(ConfigError) as caught:
        read_yaml(text)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff")
    (tmp_path / "large.yaml").write_text("a: " + "x" * 2**18)
    os.mkfifo(tmp_path / "pipe.yaml")
    sentences = {
        tmp_path / "large.yaml": f"{tmp_path / 'large.yaml'} must be a configuration file in YAML, but has more than "
        "256 KiB.",
        tmp_path / "pipe.yaml": f"{tmp_path / 'pipe.yaml'} must be a configuration file in YAML, but is a pipe or a "
        "device.",
        tmp_path: f"{tmp_path} must be a configuration file in YAML, but is a folder.",
        tmp_path / "none.yaml": f"{tmp_path / 'none.yaml'} must be a configuration file in YAML, but does not exist.",
        binary: f"{binary} must be a configuration file in YAML, but is not text in UTF-8 (byte 3).",
    }
    for path, sentence in sentences.items():
        with pytest.raises(ConfigError) as caught:
            read_yaml(path)
        assert str(caught.value) == sentence


def test_the_place_of_a_key_is_its_line_or_that_of_the_section_around_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a:\n  b:\n    c: 1\n")
    document = read_yaml(path)
    assert document.origin(("a", "b", "c")) == "mine.yaml, line 3"
    assert document.origin(("a", "b", "other")) == "mine.yaml, line 2"
    assert document.origin(("other",)) == "mine.yaml"


def test_a_thousand_million_laughs_are_refused_at_the_first():
    laughs = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(ConfigError, match=r"line 2: the YAML must be well formed, but aliases \(`\*name`\) are not"):
        read_yaml(laughs)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "marked.yaml"
    path.write_text("a: 1", encoding="utf-8-sig")
    assert read_yaml(path).values == {"a": 1}
