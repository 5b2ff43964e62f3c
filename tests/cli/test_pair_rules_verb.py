"""`betahead train` and `eval` with the rules that read the pair: columns of a JSONL with texts, a live reference."""

import json

import pytest
import tiny_run
import yaml

from betahead.beta.files import load_rule

KINDS = {
    "given": {},
    "odpo": {"scale": "linear"},
    "madpo": {"threshold": 1.0},
    "wpo": {},
    "mallows": {},
    "epsilon_dpo": {"perturbation": 0.1, "bounds": [0.001, 1.0]},
}


@pytest.fixture
def columned(world):
    """The pairs with a number of each kind."""
    rows = [
        row | {"given_beta": 0.5 + 0.1 * i, "strength": 0.1 + 0.05 * i, "reward_margin": 0.2 * i - 1.0}
        for i, row in enumerate(tiny_run.pair_rows())
    ]
    tiny_run.write_rows(world / "pairs.jsonl", rows)
    return world


def said(world, beta, **sections):
    config = yaml.safe_load((world / "one.yaml").read_text()) | {"beta": beta} | sections
    (world / "one.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    "kind",
    [
        "mallows",
        "epsilon_dpo",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("given", "odpo", "madpo", "wpo")),
    ],
)
def test_a_rule_trains_by_its_name_and_its_run_can_be_opened(kind, columned, betahead):
    live = {"reference": {"cache": "live"}} if kind == "epsilon_dpo" else {}
    said(columned, {"kind": kind, **KINDS[kind]}, **live)
    code, _, err = betahead("train", "one.yaml")
    assert code == 0, err
    run = columned / "runs" / "one"
    rule = load_rule(run)
    assert rule.kind == kind
    assert KINDS[kind].items() <= rule.settings.items()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    if kind in ("given", "mallows"):
        assert all(line["beta/std"] > 1e-4 for line in steps)
    if kind == "epsilon_dpo":
        assert steps[0]["beta/base"] == pytest.approx(0.01) and "beta/base" in steps[-1]
        assert float(rule.state_dict()["base"]) == pytest.approx(steps[-1]["beta/base"], rel=1e-6)
    code, out, err = betahead("eval", "runs/one", "--kl-prompts", "0", "--json")
    assert code == 0, err
    pairs = json.loads(out)["pairs"]
    assert pairs["beta"]["estimate"] > 0


@pytest.mark.parametrize(
    ("beta", "words", "sentence"),
    [
        (
            {"kind": "epsilon_dpo"},
            [],
            "`precompute_ref_log_probs` must be False with `beta.kind: epsilon_dpo`, which compares the logits of "
            "policy and reference at every step, but is True instead; in a configuration say `reference.cache: live`.",
        ),
        ({"kind": "madpo"}, ["loss.kind=ipo"], "`loss.kind` must be sigmoid with this beta rule, but is ipo instead;"),
        ({"kind": "odpo", "scale": "square"}, [], "`beta.scale` must be one of log, linear, but is 'square' instead."),
        ({"kind": "odpo", "alpha": -1.0}, [], "`beta.alpha` must be a number of at least 0, but is -1.0 instead."),
        ({"kind": "epsilon_dpo", "bounds": [0.1, 0.2]}, [], "`beta.bounds` must be two numbers with 0 < low"),
        ({"kind": "odpo"}, [], "must have a column `strength` for `beta.kind: odpo`, but have none;"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_one_sentence_before_anything_is_written(beta, words, sentence, world, betahead):
    said(world, beta)
    for more in ([], ["--dry-run"]):
        code, out, err = betahead("train", "one.yaml", *words, *more)
        assert code == 2
        assert err.startswith("error: ") and err.count("\n") == 1
        assert sentence in err
        assert "Traceback" not in out + err
    assert not (world / "runs").exists()
