import json
import re
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file

from betahead.beta.files import SETTINGS, WEIGHTS, load_rule, load_state, save_rule
from betahead.beta.fixed import FixedBeta
from betahead.errors import DataError


@pytest.mark.parametrize("net", tiny.NETS)
@pytest.mark.parametrize("form", tiny.FORMS, ids=str)
def test_a_rule_comes_back_from_its_files_with_the_same_beta(net: str, form: dict[str, object], tmp_path: Path) -> None:
    rule = tiny.built(net=net, **form, bounds=(1e-3, 20.0), scatter=0.4)
    rule.calibrate(torch.tensor([1.0, 3.0]))
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    again = load_rule(tmp_path)
    assert again.settings == rule.settings
    features = tiny.features(6)
    assert torch.equal(again(features, torch.zeros(6)).beta, rule(features, torch.zeros(6)).beta)


def test_a_fixed_beta_comes_back_from_its_files(tmp_path: Path) -> None:
    save_rule(FixedBeta(0.35), tmp_path, hidden_size=4)
    again = load_rule(tmp_path)
    assert isinstance(again, FixedBeta)
    assert again.beta == 0.35


def test_the_numbers_can_be_read_by_whoever_can_read_the_description(tmp_path: Path) -> None:
    save_rule(FixedBeta(0.35), tmp_path, hidden_size=4)
    assert (tmp_path / WEIGHTS).stat().st_mode == (tmp_path / SETTINGS).stat().st_mode


def test_the_description_is_readable(tmp_path: Path) -> None:
    save_rule(tiny.built(initial_beta=0.2), tmp_path, hidden_size=tiny.HIDDEN)
    described = json.loads((tmp_path / SETTINGS).read_text())
    assert (described["schema"], described["kind"], described["hidden_size"]) == (1, "learned", tiny.HIDDEN)
    assert described["settings"]["initial_beta"] == 0.2


def test_a_folder_without_a_rule_is_refused(tmp_path: Path) -> None:
    wanted = f"`{tmp_path}` must hold beta_head.json, but does not; point to the folder of a finished run."
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        load_rule(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"kind": "fixed"}', "[]"])
def test_a_broken_description_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_text(text)
    with pytest.raises(DataError, match=r"must describe a beta rule, but is broken \(.*\); restore it\.$"):
        load_rule(tmp_path)


@pytest.mark.parametrize(("schema", "kind"), [(2, "fixed"), (1, "guessed")])
def test_an_unknown_schema_or_kind_is_refused(schema: int, kind: str, tmp_path: Path) -> None:
    described = {"schema": schema, "kind": kind, "hidden_size": 4, "settings": {}}
    (tmp_path / SETTINGS).write_text(json.dumps(described))
    wanted = f"must be of schema 1 and a known kind, but is {schema}, '{kind}' instead."
    with pytest.raises(DataError, match=re.escape(wanted)):
        load_rule(tmp_path)


@pytest.mark.usefixtures("unchecked")
def test_settings_that_this_version_does_not_know_are_refused_as_a_mistake_of_the_file(tmp_path: Path) -> None:
    described = {"schema": 1, "kind": "fixed", "hidden_size": 4, "settings": {"bta": 0.1}}
    (tmp_path / SETTINGS).write_text(json.dumps(described))
    with pytest.raises(DataError):
        load_rule(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    rule = tiny.built()
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    (tmp_path / WEIGHTS).unlink()
    wanted = f"`{tmp_path}` must hold beta_head.safetensors, but does not; the checkpoint is incomplete."
    with pytest.raises(DataError, match=f"^{re.escape(wanted)}$"):
        load_state(rule, tmp_path)


def test_the_weights_of_another_rule_are_refused(tmp_path: Path) -> None:
    save_rule(tiny.built(net="mlp"), tmp_path, hidden_size=tiny.HIDDEN)
    with pytest.raises(DataError, match=r"beta_head\.safetensors` must fit the rule learned, but does not \("):
        load_state(tiny.built(), tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(DataError, match=r"must fit the rule learned"):
        load_state(tiny.built(), tmp_path)


def test_a_folder_whose_level_and_exponent_are_scalars_is_still_read(tmp_path: Path) -> None:
    rule = tiny.built(ppl_exponent="learned", scatter=0.4)
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    older = {
        name: value.squeeze() if name in ("head.log_level", "head.exponent") else value
        for name, value in rule.state_dict().items()
    }
    assert older["head.log_level"].ndim == older["head.exponent"].ndim == 0
    save_file(older, tmp_path / WEIGHTS)
    again = load_rule(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in rule.state_dict().items())
