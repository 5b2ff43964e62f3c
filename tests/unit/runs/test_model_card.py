"""The model card of a finished run: what it says, what it must not say, and that nothing in it can act."""

import json
import shutil
import subprocess
import sys
import textwrap

import pytest
import tiny_run
import yaml
from huggingface_hub import ModelCard

from betahead.runs.folder import RunFolder
from betahead.runs.model_card import as_text, card_of, write_card

EVAL = {
    "data": "held out of /home/somebody/pairs.jsonl",
    "pairs": {
        "pairs": 40,
        "prompts": 20,
        "margin_unit": "nats",
        **{
            name: {"estimate": 0.61, "low": 0.5, "high": 0.7}
            for name in ("accuracy", "longer_wins", "gain", "nll", "brier", "ece", "margin")
        },
        "slope": {"estimate": "inf", "low": 0.5, "high": "inf"},
    },
    "kl": {"nats": 1.25, "standard_error": 0.2},
    "answers": {
        "policy_tokens": {"estimate": 11.5, "low": 10.0, "high": 13.0},
        "reference_tokens": {"estimate": 9.0, "low": None, "high": None},
    },
    "win_rate": {
        "judge": "judge <script>alert(1)</script> | x",
        "win_rate": {"estimate": 0.55, "low": 0.4, "high": 0.7},
        "length_controlled": {"estimate": 0.52, "low": 0.37, "high": 0.69},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run.finished_run(tmp_path_factory.mktemp("card"))


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def changed(folder, old, new):
    text = folder.config.read_text()
    assert old in text
    folder.config.write_text(text.replace(old, new))


def test_training_leaves_a_card_with_the_facts_of_the_run(run):
    card = ModelCard.load(run.policy / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert {"betahead", "dpo", "beta-learned"} <= set(card.data.tags)
    assert card.data.license is None and card.data.language is None
    assert card.data.base_model is None and card.data.datasets is None
    summary = json.loads((run.path / "summary.json").read_text())
    assert f"| pairs trained on | {summary['pairs']['train']} |" in card.text
    assert f"in {summary['held_out']['rewards/accuracies']:.3f} of cases" in card.text
    assert f"| β of held-out pairs after | median {summary['beta_end']['median']:.3g}," in card.text
    assert "## Limits" in card.text and "betahead train config.yaml output=OTHER" in card.text
    assert (run.path / "DONE").stat().st_mtime >= (run.policy / "README.md").stat().st_mtime


def test_no_path_of_this_machine_is_in_it(run):
    assert str(run.path.parent) not in (run.policy / "README.md").read_text()
    assert "pairs\\.jsonl" in (run.policy / "README.md").read_text()


def test_names_of_the_hub_become_metadata(copy, run):
    changed(copy, f"name: {run.path.parent / 'model'}", "name: Qwen/Qwen2.5-0.5B-Instruct")
    changed(copy, f"train: {run.path.parent / 'pairs.jsonl'}", "train: org/pairs:train_prefs")
    card = ModelCard(card_of(copy))
    assert card.data.base_model == "Qwen/Qwen2.5-0.5B-Instruct"
    assert card.data.to_dict()["base_model_relation"] == "finetune"
    assert card.data.datasets == ["org/pairs"]


def test_an_evaluation_stands_in_it_with_its_intervals(copy):
    copy.write_json("eval.json", EVAL)
    write_card(copy)
    text = (copy.policy / "README.md").read_text()
    assert "| implicit-reward accuracy | 0.610 [0.500, 0.700] |" in text
    assert "| slope (calibrated: 1) | inf [0.5, inf] |" in text
    assert "| KL to the reference, nats an answer | 1.25 ± 0.2 (standard error) |" in text
    assert "| tokens of an answer, reference | 9.0 |" in text
    assert "| the same, had answers been equally long | 0.520 [0.370, 0.690] |" in text
    assert "/home/somebody" not in text and "held out of pairs\\.jsonl" in text
    assert "<script>" not in text and "\\<script\\>" in text


def test_what_users_wrote_stays_text(copy, run):
    evil = "/x/# <img src=x onerror=alert(1)> [a](http&58;//e.org) `c` | d ```.jsonl"
    changed(copy, f"train: {run.path.parent / 'pairs.jsonl'}", f"train: {json.dumps(evil)}")
    text = card_of(copy)
    body = text.split("---\n", 2)[2]
    assert "<img" not in body and "](http" not in body
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "transformers"
    assert body.count("```") % 2 == 0


@pytest.mark.parametrize(
    "given",
    ["# h", "a | b", "<b>x</b>", "[x](y)", "https://e.org", "`code`", "a\n# h", "---\nx: y", "![i](u)", "*b* _i_"],
)
def test_a_text_has_no_mark_left_that_markdown_reads(given):
    shown = as_text(given)
    assert "\n" not in shown
    bare = [mark for at, mark in enumerate(shown) if mark in "#|<>[]()`!*_:" and shown[at - 1 : at] != "\\"]
    assert bare == []
    assert shown.replace("\\", "") == " ".join(given.split())


def test_secrets_and_paths_of_the_settings_are_left_out(copy):
    changed(copy, "logging_steps: 3", "logging_steps: 3\n  deepspeed: /home/somebody/zero.json")
    assert "somebody" not in card_of(copy)


def test_a_run_that_did_not_finish_has_no_card(copy):
    (copy.path / "summary.json").unlink()
    (copy.policy / "README.md").unlink()
    assert card_of(copy) is None
    write_card(copy)
    assert not (copy.policy / "README.md").exists()


def test_an_adapter_is_called_one(tmp_path):
    run = tiny_run.finished_run(tmp_path, "model.adapter={kind: lora, rank: 2}", "train.max_steps=1")
    text = (run.policy / "README.md").read_text()
    assert ModelCard(text).data.library_name == "peft"
    assert "--lora-modules policy=" in text


def test_the_policy_opens_in_transformers_where_this_package_is_not(run):
    program = """
        import json, sys
        sys.modules["betahead"] = None  # an import of it fails
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        model, info = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        ids = tokenizer("What is rain?", return_tensors="pt").input_ids
        print(json.dumps(model.generate(ids, max_new_tokens=4, do_sample=False)[0].tolist()))
        print(json.dumps("betahead" in {name.split(".")[0] for name, module in sys.modules.items() if module}))
        """
    done = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program), str(run.policy)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ids, loaded = map(json.loads, done.stdout.splitlines()[-2:])
    assert len(ids) > 4 and loaded is False
