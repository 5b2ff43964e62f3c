"""Every kind of adapter from a configuration: trained, looked at, evaluated, trained further, merged."""

import json
import re

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from betahead.evaluate.pairs import score_pairs, summary_of
from betahead.runs.opened import open_run

# The library, called alone, speaks of tied heads.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
]
ADAPTERS = {
    "lora": "{kind: lora, rank: 2}",
    "dora": "{kind: dora, rank: 2, target_modules: [q_proj, down_proj]}",
    "lm_head": "{kind: lora, rank: 2, target_modules: [q_proj, lm_head]}",
    "whole": "{kind: lora, rank: 2, modules_to_save: [lm_head]}",
}
FAST = ["train.learning_rate=2.0e-2", "evaluate.samples=0"]


def summary(run):
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))


def numbers(model):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[5, 9, 17, 30, 8, 41]])).logits


def evaluated(run):
    """The mean margin of the held-out pairs of an opened run."""
    opened = open_run(run, device="cpu")
    scores = score_pairs(opened.model, opened.reference, opened.held_out(), opened.collate, device=opened.device)
    return summary_of(scores, replicates=20).margin.estimate


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_run_with_an_adapter_is_looked_at_and_loaded_by_other_tools(kind, world, model, betahead):
    code, _, err = betahead("train", "one.yaml", f"model.adapter={ADAPTERS[kind]}", *FAST)
    assert code == 0, err
    assert "must agree" not in err, "policy and reference began alike"
    run = world / "runs" / "one"
    code, _, err = betahead("inspect", run, "--prompt", "What is rain?", "--device", "cpu", "--json")
    assert code == 0, err
    code, _, err = betahead("eval", run, "--device", "cpu")
    assert code == 0, err
    assert evaluated(run) == pytest.approx(summary(run)["held_out"]["margins/nats"], abs=1e-3)
    assert abs(evaluated(run)) > 0.01
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), run / "policy")
    torch.testing.assert_close(numbers(loaded), numbers(open_run(run, device="cpu").model.policy), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["lora", "dora", "lm_head"])
def test_a_merged_policy_is_a_whole_model_with_the_numbers_of_its_adapter(kind, world, model, betahead):
    merging = ADAPTERS[kind].replace("}", ", merge: true}")
    code, _, err = betahead("train", "one.yaml", f"model.adapter={merging}", *FAST)
    assert code == 0, err
    run = world / "runs" / "one"
    assert not list((run / "policy").glob("adapter_*"))
    assert {"model.safetensors", "tokenizer.json", "beta_head.json"} <= {
        path.name for path in (run / "policy").iterdir()
    }
    whole, info = AutoModelForCausalLM.from_pretrained(run / "policy", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model), run / "adapter")
    torch.testing.assert_close(numbers(whole), numbers(adapted), rtol=1e-4, atol=1e-4)
    assert (numbers(whole) - numbers(AutoModelForCausalLM.from_pretrained(model))).abs().max() > 1e-3
    assert evaluated(run) == pytest.approx(summary(run)["held_out"]["margins/nats"], abs=1e-3)


@pytest.mark.parametrize("merge", [False, True], ids=["kept", "merged"])
def test_an_adapter_is_trained_further_and_its_start_is_the_reference(merge, world, betahead):
    assert betahead("train", "one.yaml", f"model.adapter={ADAPTERS['lora']}", *FAST)[0] == 0
    first = world / "runs" / "one" / "policy"
    further = f"model.adapter={{kind: saved, path: {first}, merge: {str(merge).lower()}}}"
    code, _, err = betahead("train", "one.yaml", "output=runs/two", further, *FAST)
    assert code == 0, err
    assert "must agree" not in err, "policy and reference began alike"
    run = world / "runs" / "two"
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps[0]["margins/nats"] == pytest.approx(0.0, abs=1e-4)
    # The run holds its own reference: the first one may go.
    (world / "runs" / "one").rename(world / "runs" / "gone")
    assert evaluated(run) == pytest.approx(summary(run)["held_out"]["margins/nats"], abs=1e-3)
    assert abs(evaluated(run)) > 0.01
    assert betahead("inspect", run, "--prompt", "What is rain?", "--device", "cpu")[0] == 0
    assert (run / "policy" / "adapter_config.json").is_file() != merge


REFUSED = {
    "four bits without a device": (
        "{kind: qlora}",
        r"`model\.adapter\.kind` must be lora or dora on this machine, but is qlora instead, which needs .*bitsandbytes"
        r"; use one of these, or a machine that has it",
    ),
    "an adapter that is nowhere": (
        "{kind: saved, path: ./nowhere}",
        r"`model\.adapter\.path` must be the folder of an adapter that was trained on this model, but nowhere is "
        r"not \(",
    ),
    "a saved adapter without its folder": ("{kind: saved}", r"`model\.adapter\.path` is missing"),
    "a rank for what has one": ("{kind: saved, path: x, rank: 4}", r"`model\.adapter\.rank` is not a key"),
    "merging nothing": ("{kind: none, merge: true}", r"`model\.adapter\.merge` is not a key"),
    "bits that there are not": (
        "{kind: qlora, quantization: int3}",
        r"`model\.adapter\.quantization` must be one of nf4, fp4, but is 'int3' instead",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_cannot_be_is_refused_and_nothing_is_left(case, world, betahead):
    adapter, pattern = REFUSED[case]
    for words in ([], ["--dry-run"]):
        code, out, err = betahead("train", "one.yaml", f"model.adapter={adapter}", *words)
        assert code == 2
        assert err.startswith("error: ") and err.count("\n") == 1 and "Traceback" not in out + err
        assert re.search(pattern, err), err
        assert not (world / "runs").exists()


def test_the_folder_of_an_adapter_is_no_model_of_a_run(world, betahead):
    assert betahead("train", "one.yaml", f"model.adapter={ADAPTERS['lora']}")[0] == 0
    folder = world / "runs" / "one" / "policy"
    code, _, err = betahead("train", "one.yaml", "output=runs/two", f"model.name={folder}")
    assert code == 2
    assert err == (
        f"error: `model.name` must be a whole model, but {folder} holds an adapter instead; name the model that it was "
        f"trained on, and say `model.adapter: {{kind: saved, path: {folder}}}`.\n"
    )
