"""Nothing in a model's folder runs: pickles are not opened, code of its own is not imported."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

from betahead.beta.files import load_rule
from betahead.errors import ConfigError, DataError
from betahead.runs.opened import open_run
from betahead.train.parts import causal_model
from betahead.train.safe_loading import check_adapter_weights


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_run.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def marker(tmp_path):
    """A file that exists once something has run."""
    return tmp_path / "ran"


def bomb(path, marker):
    torch.save({"weight": Bomb(marker)}, path)
    return path


def test_the_bomb_goes_off_when_a_pickle_is_trusted(tmp_path, marker):
    torch.load(bomb(tmp_path / "x.bin", marker), weights_only=False)
    assert marker.exists()


def test_a_model_whose_weights_are_a_pickle_is_refused(model, tmp_path, marker):
    folder = shutil.copytree(model, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    bomb(folder / "pytorch_model.bin", marker)
    with pytest.raises(ConfigError) as caught:
        causal_model(str(folder))
    assert str(caught.value) == (
        f"`model` must have its weights as safetensors, but {folder} has pytorch_model.bin instead, and reading a "
        "pickle can run any code; have its maker save it with `save_pretrained`, or convert it where nothing can be "
        "lost."
    )
    assert not marker.exists()


def test_a_pickle_beside_safetensors_is_not_read(model, tmp_path, marker):
    folder = shutil.copytree(model, tmp_path / "both")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        bomb(folder / name, marker)
    causal_model(str(folder))
    assert not marker.exists()


def test_keywords_cannot_ask_for_pickles(model):
    with pytest.raises(ConfigError) as caught:
        causal_model(str(model), {"use_safetensors": False})
    assert str(caught.value) == (
        "`model_init_kwargs` must leave out `use_safetensors`, but it is False instead; weights that are pickles are "
        "never read."
    )


def code_of_its_own(folder, marker, names):
    folder.mkdir()
    described = {"model_type": "of_its_own", "auto_map": {name: f"own.{name}" for name in names}}
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}})
    )
    (folder / "own.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    return folder


def test_a_model_with_code_of_its_own_is_refused_and_the_setting_is_named(tmp_path, marker):
    folder = code_of_its_own(tmp_path / "own", marker, ["AutoConfig", "AutoModelForCausalLM"])
    with pytest.raises(ConfigError) as caught:
        causal_model(str(folder))
    assert str(caught.value) == (
        f"`trust_remote_code` must be true for a model with code of its own such as {folder}, which runs when it is "
        "loaded, but is false instead; read that code, then set `trust_remote_code` (in a configuration "
        "`model.trust_remote_code: true`), or use a model that transformers knows."
    )
    assert not marker.exists()


def test_an_adapter_that_is_a_pickle_is_refused(tmp_path, marker):
    with pytest.raises(DataError) as caught:
        check_adapter_weights(tmp_path)
    assert str(caught.value) == (
        f"`{tmp_path}` must hold adapter_model.safetensors, but has none; save the adapter with `save_pretrained`."
    )
    bomb(tmp_path / "adapter_model.bin", marker)
    with pytest.raises(DataError) as caught:
        check_adapter_weights(tmp_path)
    assert str(caught.value) == (
        f"`{tmp_path}` must hold adapter_model.safetensors, but has adapter_model.bin instead, and reading a pickle "
        "can run any code; save the adapter with `save_pretrained`."
    )
    assert not marker.exists()


def test_a_run_whose_files_were_replaced_by_pickles_is_refused(tmp_path, marker):
    run = tiny_run.finished_run(tmp_path)
    weights = run.policy / "model.safetensors"
    assert load_file(weights)
    kept = weights.read_bytes()
    weights.unlink()
    bomb(run.policy / "pytorch_model.bin", marker)
    with pytest.raises(ConfigError, match=r"must have its weights as safetensors, but .*policy has pytorch_model.bin"):
        open_run(run.path, device="cpu")
    weights.write_bytes(kept)
    bomb(run.path / "beta_head.safetensors", marker)
    with pytest.raises(DataError, match="must fit the rule learned, but does not"):
        load_rule(run.path)
    with pytest.raises(DataError, match="must fit the rule learned, but does not"):
        open_run(run.path, device="cpu")
    assert not marker.exists()


@pytest.fixture
def foreign(tmp_path, marker):
    """A run whose policy has code of its own, and whose configuration trusts it."""
    run = tiny_run.finished_run(tmp_path)
    shutil.rmtree(run.policy)
    code_of_its_own(run.policy, marker, ["AutoConfig", "AutoModelForCausalLM"])
    text = run.config.read_text()
    assert "trust_remote_code: false" in text
    run.config.write_text(text.replace("trust_remote_code: false", "trust_remote_code: true"))
    return run


def test_a_run_is_not_trusted_by_its_own_word(foreign, marker):
    with pytest.raises(ConfigError) as caught:
        open_run(foreign.path, device="cpu")
    assert str(caught.value) == (
        f"`--trust-remote-code` must be given for {foreign.path}, whose config.yaml says `model.trust_remote_code: "
        "true` and whose model's code would run when it is loaded, but is left out; read that code, then add "
        "`--trust-remote-code` (in Python `trust_remote_code=True`)."
    )
    foreign.config.write_text(foreign.config.read_text().replace("remote_code: true", "remote_code: false"))
    for trusted in (False, True):
        with pytest.raises(ConfigError, match="`trust_remote_code` must be true for a model with code of its own"):
            open_run(foreign.path, device="cpu", trust_remote_code=trusted)
    assert not marker.exists()


def test_the_code_of_a_run_runs_for_who_trusts_it(foreign, marker, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(DataError, match="must be loadable from"):  # all that the code does is to make the file
        open_run(foreign.path, device="cpu", trust_remote_code=True)
    assert marker.exists()
