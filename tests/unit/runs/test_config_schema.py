"""The schema that editors read is current, and accepts what the package itself writes."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from betahead.cli.main import app
from betahead.errors import ConfigError
from betahead.runs.config import dump_config, load_config
from betahead.runs.config_schema import published_schema
from betahead.runs.presets import config_path, preset_names

PUBLISHED = Path(__file__).parents[3] / "docs" / "config.schema.json"


@pytest.fixture(scope="module")
def schema():
    return json.loads(published_schema())


def test_the_published_file_is_current():
    current = PUBLISHED.read_text(encoding="utf-8") == published_schema()
    assert current, "write it again: betahead init --schema > docs/config.schema.json"


def test_the_command_prints_it(capsys):
    app(["init", "--schema"], standalone_mode=False)
    assert capsys.readouterr().out == published_schema()


@pytest.mark.parametrize("word", ["dpo", "--list"])
def test_what_the_command_could_not_use_is_refused(word):
    with pytest.raises(ConfigError, match=f"^{word} must be left out with --schema, but is given; it would have no"):
        app(["init", word, "--schema"], standalone_mode=False)


def test_it_is_a_schema(schema):
    jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_fits_as_it_is_written_and_as_it_is_resolved(name, schema):
    path = config_path(name)
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema)
    jsonschema.validate(yaml.safe_load(dump_config(load_config(path))), schema)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"modle": {}}, []),
        ({"beta": {"kind": "learned", "net": "resnet"}}, ["beta", "net"]),
        ({"data": {"train": "pairs.jsonl", "holdout": 2}}, ["data", "holdout"]),
        ({"train": {"num_train_epochs": "many"}}, ["train", "num_train_epochs"]),
    ],
)
def test_a_mistake_is_seen_while_one_types(change, where, schema):
    written = yaml.safe_load(config_path("learned_beta").read_text(encoding="utf-8")) | change
    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(written))
    assert errors
    places = [list(error.absolute_path) for error in errors]
    places += [[*error.absolute_path, *deeper.relative_path] for error in errors for deeper in error.context or ()]
    assert where in places


def test_keys_carry_the_words_of_their_docstrings(schema):
    data = schema["$defs"]["DataSection"]["properties"]
    assert data["holdout"]["description"].startswith("share of the *prompts* kept for evaluation")
    assert schema["$defs"]["EvaluateSection"]["description"] == "What is looked at during and after training."
