"""`betahead methods`: what it shows is what the code is."""

import json
import re

import pytest
import yaml

from betahead.beta.table import CONTROLS, METHODS
from betahead.runs.config import load_config
from betahead.runs.methods import GROUPS, Method, method_named, methods

ALL = methods()


def test_the_tables_name_every_method_once(betahead) -> None:
    names = [method.name for method in ALL]
    assert len(set(names)) == len(names)
    assert {rule.kind for rule in (*METHODS, *CONTROLS)} <= set(names)
    code, out, _ = betahead("methods")
    assert code == 0
    for title in GROUPS.values():
        assert title in out
    first_words = {line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")}
    assert first_words >= set(names)
    # An address is whole, if on several lines: nothing is cut off.
    assert "…" not in out


def test_json_holds_the_same_for_programs(betahead) -> None:
    code, out, _ = betahead("methods", "--json")
    assert code == 0
    assert [one["name"] for one in json.loads(out)] == [method.name for method in ALL]
    code, out, _ = betahead("methods", "wpo", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(json.dumps(method_named("wpo").to_dict()))


def test_one_method_is_shown_with_formula_defaults_source_and_how_to_say_it(betahead) -> None:
    code, out, _ = betahead("methods", "epsilon_dpo")
    assert code == 0
    for part in (
        "epsilon_dpo: ε-DPO",
        "β_i = β̄ / (1 + ε·k_i)",
        "defaults  initial_beta 0.01, perturbation 0.01, bounds null",
        "https://arxiv.org/abs/2502.13177 (read: code)",
        "refused   reference.cache other than live",
        "cache: live",
        "from betahead.beta.epsilon_dpo import PerturbedBeta",
        "precompute_ref_log_probs=False",
    ):
        assert part in out


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_what_is_shown_of_a_method_is_complete_and_can_be_said(method: Method, betahead) -> None:
    code, out, _ = betahead("methods", method.name)
    assert code == 0
    assert out.startswith(f"{method.name}: {method.title}\n")
    assert method.formula and method.cost
    assert method.checked in ("code", "TRL's code", "LLaMA-Factory's code", "paper", "abstract", "")
    assert (method.checked == "") == method.source.startswith("this package")
    assert ("(read: " in out) == (method.checked != "")
    assert re.search(r"https://|this package", method.source)
    if method.yaml:
        said = yaml.safe_load(method.yaml)
        whole = {"model": {"name": "model"}, "data": {"train": "pairs.jsonl"}, "beta": {"kind": "fixed"}, "output": "x"}
        config = load_config(yaml.safe_dump(whole | said))
        for section, keys in said.items():
            found = getattr(config, section).model_dump(mode="json")
            for key, value in keys.items():
                assert found[key] == value or value.items() <= found[key].items(), (section, key)
    compile(method.python.replace("…", "model"), method.name, "exec")


@pytest.mark.parametrize(
    ("alias", "name"),
    [("ld_dpo", "ld_alpha"), ("forward_kl", "f_divergence_type"), ("cdpo", "label_smoothing"), ("mpo", "weights")],
)
def test_a_modifier_is_found_by_its_other_names(alias: str, name: str, betahead) -> None:
    assert betahead("methods", alias)[:2] == betahead("methods", name)[:2]
    assert method_named(alias).group == "modifier"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("dpo", "sigmoid"),
        ("rdpo", "robust"),
        ("sppo", "sppo_hard"),
        ("apo", "apo_zero"),
        ("aps", "adaptive_scaling"),
        ("ada_dpo", "adaptive_scaling"),
    ],
)
def test_a_method_is_found_by_the_name_that_its_authors_use(alias: str, name: str) -> None:
    assert method_named(alias) == method_named(name)


def test_the_example_of_simpo_says_a_beta_of_its_authors() -> None:
    method = method_named("simpo")
    assert yaml.safe_load(method.yaml)["beta"] == {"kind": "fixed", "beta": 2.0}
    assert "beta=2.0" in method.python


def test_a_name_that_is_none_is_one_sentence_with_the_nearest(betahead) -> None:
    code, _, err = betahead("methods", "odop")
    assert code == 2
    assert err == "error: NAME must be the name of a method, but is 'odop' instead; did you mean odpo?\n"
    code, _, err = betahead("methods", "qqqq")
    assert err == (
        "error: NAME must be the name of a method, but is 'qqqq' instead; `betahead methods` shows them all.\n"
    )
