"""Losses named on the command line: with a list and weights, without a reference, and read back by `eval`."""

import json


def test_a_run_without_a_reference_says_so_and_is_evaluated(world, betahead):
    words = ["one.yaml", "loss.kind=[simpo,sft]", "loss.weights=[1,0.1]", "loss.simpo_gamma=0.3"]
    code, out, err = betahead("train", *words, "--dry-run")
    assert code == 0, err
    assert "not read" in out
    code, out, err = betahead("train", *words)
    assert code == 0, err
    assert "the reference is not read" in out
    assert not list(world.glob("*.refcache"))
    code, out, err = betahead("eval", "runs/one", "--json")
    assert code == 0, err
    assert json.loads(out)["pairs"]["margin_unit"] == "nats per token"


def test_scores_of_the_common_length_are_kept_and_found(world, betahead):
    words = ["one.yaml", "loss.ld_alpha=0.5", "reference.cache=./kept"]
    code, out, err = betahead("train", *words)
    assert code == 0, err
    assert "0 of 48 rows found, 48 scored" in out
    code, out, err = betahead("train", *words, "output=runs/two", "loss.f_divergence_type=js_divergence")
    assert code == 0, err
    assert "48 of 48 rows found, 0 scored" in out
    code, out, err = betahead("eval", "runs/two", "--json")
    assert code == 0, err
    assert json.loads(out)["pairs"]["margin_unit"] == "f′ of js_divergence"
