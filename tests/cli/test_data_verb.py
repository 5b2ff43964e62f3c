import json

import pytest
import typer
from typer.testing import CliRunner

from betahead.cli.data import data
from betahead.errors import ConfigError, DataError

ROWS = [
    {"prompt": "What is it?", "chosen": "It is a long answer.", "rejected": "Short.", "domain": "x"},
    {"prompt": "What is it?", "chosen": "No.", "rejected": "It is.", "domain": "x"},
    {"prompt": "Why?", "chosen": "", "rejected": "Because."},
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def ran(*words):
    app = typer.Typer()
    app.command()(data)
    return CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(word) for word in words])


def test_the_verb_says_what_the_file_holds(file):
    output = ran(file).output
    assert f"{file}: 2 of 3 rows can be used (layout `explicit`)" in output
    assert "  dropped 1: empty answer (pairs.jsonl:3)" in output
    assert "length in words" in output
    assert "longer answer wins   50.0% of pairs (same length: 0.0%)" in output
    assert "prompts              1 distinct in 2 pairs, 1 have more than one pair" in output
    assert "prefix sharing       sends 1." in output
    assert "domains              x 2" in output


def test_json_is_for_programs(file):
    result = ran(file, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["summary"]["dropped"] == {"empty answer": {"count": 1, "where": [f"{file}:3"]}}
    assert set(found["lengths"]["prompt"]["quantiles"]) == {"0%", "10%", "50%", "90%", "99%", "100%"}


def test_a_tokenizer_counts_tokens(file, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({letter for row in ROWS for text in row.values() for letter in text})
    vocabulary = {token: number for number, token in enumerate(["<eos>", *letters])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<eos>").save_pretrained(
        tmp_path / "t"
    )
    found = json.loads(ran(file, "--tokenizer", tmp_path / "t", "--max-length", 25, "--json").stdout)
    assert found["unit"] == "tokens"
    assert found["lengths"]["prompt"]["mean"] == len("What is it?")
    assert found["summary"]["cut"] == 1
    assert "1 pair with answers cut" in ran(file, "--tokenizer", tmp_path / "t", "--max-length", 25).output


def test_mistakes_are_the_errors_that_the_command_line_prints(file, tmp_path):
    assert isinstance(ran(tmp_path / "no.jsonl").exception, DataError)
    assert isinstance(ran(file, "--max-length", 10).exception, ConfigError)
    error = ran(file, "--tokenizer", tmp_path / "none").exception
    assert isinstance(error, DataError)
    assert str(error).startswith(
        f"`--tokenizer` must be a tokenizer's folder or Hub name, but '{tmp_path / 'none'}' cannot be loaded ("
    )
