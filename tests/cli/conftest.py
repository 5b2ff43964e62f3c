"""The command line in a folder with a tiny model and pairs."""

import sys

import pytest
import tiny_run

from betahead.cli.main import main

CONFIG = """
model: {{name: {model}, dtype: float32}}
data: {{train: {data}, max_length: 64, holdout: 0.25}}
beta: {{kind: learned, net: mlp}}
train: {{max_steps: 4, per_device_train_batch_size: 4, learning_rate: 1.0e-3, logging_steps: 1, use_cpu: true}}
evaluate: {{prompts: 6, samples: 2, max_new_tokens: 8}}
output: {output}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_run.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def world(model, tmp_path, monkeypatch):
    """A folder with a model, pairs and a config, and the command line in it."""
    tiny_run.write_rows(tmp_path / "pairs.jsonl", tiny_run.pair_rows())
    text = CONFIG.format(model=model, data="pairs.jsonl", output="runs/one")
    (tmp_path / "one.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def betahead(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["betahead", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
