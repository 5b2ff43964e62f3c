"""`betahead train` with the rules that read the batch or the margin."""

import json

import pytest
import readings
import tiny_run
import yaml
from readings import quick

from betahead.beta.files import load_rule


@pytest.mark.parametrize("kind", quick(readings.RULES, "beta_dpo", "alpha_dpo"))
def test_a_rule_trains_by_its_name_and_lies_in_the_folder_of_the_run(kind, world, betahead):
    config = yaml.safe_load((world / "one.yaml").read_text())
    config["beta"] = {"kind": kind}
    (world / "one.yaml").write_text(yaml.safe_dump(config))
    code, out, err = betahead("train", "one.yaml")
    assert code == 0, err
    run = world / "runs" / "one"
    assert json.loads((run / "beta_head.json").read_text())["kind"] == kind
    assert "shows the beta of held-out pairs" in " ".join(out.split()) and "betahead inspect" not in out
    code, _, err = betahead("eval", "runs/one")
    assert code == 0, err
    rule = load_rule(run)
    assert rule.settings == readings.RULES[kind]().settings
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert set(rule.log_metrics()) <= set(next(line for line in lines if "loss" in line))


def test_a_controller_of_the_kl_samples_as_often_as_it_is_told(world, betahead):
    beta = "{kind: kl_controller, target_kl: 3.0, kl_every: 2, kl_prompts: 4, kl_tokens: 4}"
    code, _, err = betahead("train", "one.yaml", f"beta={beta}")
    assert code == 0, err
    run = world / "runs" / "one"
    rule = load_rule(run)
    assert rule.settings["target_kl"] == 3.0 and float(rule.log_ratio) != 0.0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["kl/estimate"] > 0 for line in lines if "loss" in line] == [False, True, True, True]
    assert json.loads((run / "training_prompts.json").read_text())["beta"], "one β for all prompts is a β of each"


@pytest.mark.parametrize(
    ("beta", "line"),
    [
        ("{kind: beta_dpo, drop: 0.3}", "β-DPO (initial_beta 0.1, response 0.6, gap_scale raw, drop 0.3"),
        ("{kind: alpha_dpo}", "α-DPO (beta 2.5, gamma 0.6, alpha 0.2, units code"),
        ("{kind: adaptive_scaling, rho: 0.05}", "Adaptive preference scaling (initial_beta 0.1, rho 0.05"),
    ],
)
def test_a_dry_run_says_which_rule_with_which_settings(beta, line, world, betahead):
    code, out, err = betahead("train", "one.yaml", "--dry-run", f"beta={beta}")
    assert code == 0, err
    assert line in " ".join(out.replace("│", "").split())
    assert not (world / "runs").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["beta={kind: kl_controller, kl_every: 9}"],
            "`beta.kl_every` must be below the number of steps, 4, but is 9 instead, so that β would never follow",
        ),
        (
            ["beta={kind: learned, learning: {kind: budget, target_kl: 1}}"],
            "`beta.learning.kl_every` must be below the number of steps, 4, but is 5 instead",
        ),
        (["beta={kind: beta_dpo, drop: 1.0}"], "`beta.drop` must be in [0, 1), but is 1.0 instead."),
        (
            ["beta={kind: beta_dpo}", "train.max_batch_tokens=64"],
            "error: `max_batch_tokens` must be None with a rule that reads the batch, but is 64 instead;",
        ),
        (
            ["beta={kind: alpha_dpo}", "loss.kind=ipo"],
            "`loss.kind` must be hinge or robust or sigmoid with this beta rule",
        ),
        (["beta={kind: dama, data: reward_margin}"], "must have a column `reward_margin` for `beta.kind: dama`"),
    ],
)
def test_what_a_rule_cannot_do_is_one_sentence(words, sentence, world, betahead):
    for more in ([], ["--dry-run"]):
        code, out, err = betahead("train", "one.yaml", *words, *more)
        assert code == 2
        assert err.startswith("error: ") and err.count("\n") == 1
        assert sentence in err
        assert "Traceback" not in out + err
    assert not (world / "runs").exists()


@pytest.mark.parametrize(
    ("beta", "column", "value", "sentence"),
    [
        (
            "{kind: odpo}",
            "strength",
            0.0,
            "`strength` must be a positive number in every row, but is 0.0 in pairs.jsonl:6; correct the column, or "
            "use `beta.scale: linear`, which has a place for 0.",
        ),
        (
            "{kind: given}",
            "given_beta",
            -1,
            "`given_beta` must be a positive number in every row, but is -1.0 in pairs.jsonl:6; correct the column.",
        ),
        (
            "{kind: odpo}",
            "strength",
            None,
            "`strength` must be a positive number in every row, but is None in pairs.jsonl:6; correct the column, or "
            "use `beta.scale: linear`, which has a place for 0.",
        ),
    ],
    ids=["zero", "negative", "null"],
)
def test_a_number_that_a_rule_cannot_use_is_named_by_its_line_and_before_a_run(
    beta, column, value, sentence, world, betahead
):
    rows = [row | {column: 0.5} for row in tiny_run.pair_rows()]
    rows[3][column] = True  # no number: dropped and counted
    rows[4][column] = "0.5"
    rows[5][column] = value
    tiny_run.write_rows(world / "pairs.jsonl", rows)
    for more in ([], ["--dry-run"]):
        code, out, err = betahead("train", "one.yaml", f"beta={beta}", "data.max_dropped=0.5", *more)
        assert code == 2 and sentence in err and err.count("\n") == 1, err
        assert "Traceback" not in out + err
    assert not (world / "runs").exists()


def test_a_column_of_the_file_reaches_the_rule(world, betahead):
    rows = [row | {"reward_margin": 0.1 * i - 2.0} for i, row in enumerate(tiny_run.pair_rows())]
    tiny_run.write_rows(world / "pairs.jsonl", rows)
    code, _, err = betahead("train", "one.yaml", "beta={kind: dama, data: reward_margin, data_level: 1.0, drop: 0.0}")
    assert code == 0, err
    lines = [json.loads(line) for line in (world / "runs" / "one" / "metrics.jsonl").read_text().splitlines()]
    assert next(line for line in lines if "loss" in line)["beta/std"] > 1e-3
