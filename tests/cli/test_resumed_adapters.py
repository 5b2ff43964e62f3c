"""Runs with adapters that were killed where there is most to lose: their reference, and the merging at their end."""

import json
import shutil

import pytest
from safetensors.torch import load_file

from betahead.evaluate.pairs import score_pairs, summary_of
from betahead.runs.opened import open_run

LORA = "{kind: lora, rank: 2}"
FAST = ["train.learning_rate=2.0e-2", "evaluate.samples=0", "train.save_strategy=steps", "train.save_steps=2"]


def evaluated(run):
    """The mean margin of the held-out pairs of an opened run."""
    opened = open_run(run, device="cpu")
    scores = score_pairs(opened.model, opened.reference, opened.held_out(), opened.collate, device=opened.device)
    return summary_of(scores, replicates=20).margin.estimate


@pytest.mark.parametrize("checkpoint", [False, True], ids=["no checkpoint", "a checkpoint"])
def test_a_resumed_run_keeps_the_adapter_it_began_with_as_its_reference(checkpoint, world, betahead):
    assert betahead("train", "one.yaml", f"model.adapter={LORA}", *FAST)[0] == 0
    first = world / "runs" / "one" / "policy"
    words = ("train", "one.yaml", "output=runs/two", f"model.adapter={{kind: saved, path: {first}}}", *FAST)
    code, _, err = betahead(*words)
    assert code == 0, err
    run = world / "runs" / "two"
    whole, kept = evaluated(run), load_file(run / "reference_adapter" / "adapter_model.safetensors")
    (run / "DONE").unlink()
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    if checkpoint:
        shutil.rmtree(run / "reference_adapter")
        (run / ".reference_adapter.writing").mkdir()
    else:
        shutil.rmtree(run / "checkpoints" / "checkpoint-2")
    code, out, err = betahead(*words, "--resume")
    assert code == 0, err
    assert ("goes on after step 2" if checkpoint else "holds no whole checkpoint; the run begins again") in out
    again = load_file(run / "reference_adapter" / "adapter_model.safetensors")
    assert again.keys() == kept.keys() and all(again[name].equal(kept[name]) for name in kept)
    assert evaluated(run) == whole != 0.0
    assert not (run / ".reference_adapter.writing").exists()


@pytest.mark.parametrize("killed", ["while it was written", "between the renamings", "after it"])
def test_a_run_that_was_killed_while_merging_is_resumed_to_the_same_model(killed, world, betahead):
    words = ("train", "one.yaml", f"model.adapter={LORA[:-1]}, merge: true}}", *FAST)
    code, _, err = betahead(*words)
    assert code == 0, err
    run = world / "runs" / "one"
    policy, new = run / "policy", run / ".policy.merging"
    before = {path.name: path.read_bytes() for path in policy.glob("*.safetensors")}
    adapter = load_file(run / "adapter" / "adapter_model.safetensors")
    for name in ("DONE", "summary.json"):
        (run / name).unlink()
    if killed == "while it was written":
        policy.rename(new)
        (new / "model.safetensors").write_bytes(b"half")
        (run / "adapter").rename(policy)
    elif killed == "between the renamings":
        policy.rename(new)
    code, _, err = betahead(*words, "--resume")
    assert code == 0, err
    assert {path.name: path.read_bytes() for path in policy.glob("*.safetensors")} == before
    again = load_file(run / "adapter" / "adapter_model.safetensors")
    assert again.keys() == adapter.keys() and all(again[name].equal(adapter[name]) for name in adapter)
    assert not new.exists() and not list((run / "adapter").glob("model*.safetensors"))
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["held_out"]
