import json
import random
import shutil
from dataclasses import replace

import pytest
import yaml
from report_pages import EVALUATION, HOSTILE, column, figures_of, spoiled

from betahead.losses.table import LOSSES
from betahead.report.comparable import NATS
from betahead.report.run_files import read_run
from betahead.report.run_page import run_page
from betahead.report.written import write_report


def page_of(paths, folder):
    return write_report(paths, folder / "page.html").path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def one(learned, tmp_path_factory):
    return page_of([learned], tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def two(learned, fixed, tmp_path_factory):
    return page_of([learned, fixed], tmp_path_factory.mktemp("two"))


def copied(run, to, **changes):
    """A copy of a run without its models, with values of its run.json changed."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("policy", "checkpoints", "report.html"))
    record = json.loads((to / "run.json").read_text())
    (to / "run.json").write_text(json.dumps({**record, **changes}))
    return to


def test_the_page_says_what_was_run(one, learned):
    record = json.loads((learned / "run.json").read_text())
    assert '<pre class="command">betahead train</pre>' in one
    assert f"torch {record['software']['packages']['torch']}" in one
    assert record["data"]["train"]["sha256"][:12] in one
    assert "learned β, joint (β₀ = 0.1), loss sigmoid" in one
    assert "max_correction" in one or "kind: learned" in one


def test_the_figures_hold_what_the_folder_holds(one, learned):
    figures = {figure["name"]: figure for figure in figures_of(one)}
    rows = [json.loads(line) for line in (learned / "metrics.jsonl").read_text().splitlines()]
    logged = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    found = figures["loss"]
    drawn = dict(zip(column(found, "step"), column(found, "value"), strict=True))
    assert all(drawn[step] == pytest.approx(value, rel=1e-5) for step, value in logged[:1])
    cloud = figures["beta-log-ppl-1"]
    assert [panel["label"] for panel in cloud["panels"]] == ["0%", "25%", "50%", "75%", "100%"]
    assert cloud["start"] == 4


def test_the_prompts_at_both_ends_of_beta_have_both_answers(one):
    part = one.partition("Largest and smallest β</h2>")[2].partition("</section>")[0]
    assert part.count("<article") == 10
    assert part.count("<h4>chosen</h4>") == part.count("<h4>rejected</h4>") == 10


def test_policy_and_reference_stand_side_by_side(one):
    part = one.partition("Policy beside reference</h2>")[2].partition("</section>")[0]
    assert part.count("<article") == 4
    assert part.count("<h4>reference</h4>") == part.count("<h4>policy</h4>") == 4


def test_kl_that_was_not_measured_is_said_to_be_so(one):
    assert "KL to the reference was not measured in training." in one


def test_runs_share_the_axes_of_comparable_quantities_and_no_others(two):
    figures = {figure["name"]: figure for figure in figures_of(two)}
    for name in ("accuracy", "margin", "logps", "bounds"):
        assert set(column(figures[name], "run")) == {"report-learned/run", "report-fixed/run"}
    for name in ("loss", "rewards"):
        assert name not in figures and {f"{name}-1", f"{name}-2"} <= figures.keys()
    assert "Rewards: side by side, because rewards are scaled by each method&#x27;s own β" in two
    assert "Loss: side by side, because each method descends a loss of its own" in two


def test_no_figure_of_any_page_puts_rewards_of_two_runs_on_one_axis(two):
    for figure in figures_of(two):
        if "β · nats" in json.dumps(figure, ensure_ascii=False):
            assert len(set(column(figure, "run"))) == 1


def test_two_runs_of_one_method_share_their_loss_but_never_their_rewards(learned, tmp_path):
    page = page_of([learned, copied(learned, tmp_path / "again")], tmp_path)
    names = {figure["name"] for figure in figures_of(page)}
    assert "loss" in names and {"rewards-1", "rewards-2"} <= names
    assert "The configurations are the same but for the folder of the run." in page


def test_runs_on_other_data_stand_side_by_side(learned, tmp_path):
    other = copied(learned, tmp_path / "other", data={"train": {"source": "x.jsonl", "sha256": "0" * 64}})
    page = page_of([learned, other], tmp_path)
    names = {figure["name"] for figure in figures_of(page)}
    assert {"accuracy-1", "accuracy-2", "margin-1", "margin-2"} <= names
    assert "These runs have different pairs" in page


def test_the_keys_that_differ_are_named(two):
    part = two.partition("What differs between the configurations")[2].partition("</table>")[0]
    assert '<th scope="row">beta.kind</th><td class="t">learned</td><td class="t">fixed</td>' in part


def test_one_beta_for_all_prompts_is_said_to_be_so(fixed, tmp_path):
    page = page_of([fixed], tmp_path)
    assert "β is 0.100 for every prompt here, so the figures of β are flat." in page
    assert "β is 0.100 for every prompt, so none has a larger or smaller one." in page


def test_a_measured_kl_stands_among_the_key_numbers(learned, tmp_path):
    run = copied(learned, tmp_path / "run")
    kl = {"nats": 3.5, "standard_error": 0.25}
    (run / "eval.json").write_text(
        json.dumps({"kl": kl, "pairs": {"accuracy": {"estimate": 0.75, "low": 0.5, "high": 1.0}}})
    )
    page = page_of([run], tmp_path)
    assert "3.50<small>per answer, by betahead eval; ± 0.25 standard error</small>" in page
    assert "by betahead eval: 0.750 [0.500, 1.00]" in page


@pytest.fixture(scope="module")
def evaluated(learned, tmp_path_factory):
    run = copied(learned, tmp_path_factory.mktemp("evaluated") / "run")
    (run / "eval.json").write_text(json.dumps(EVALUATION))
    return run


def part_of(page, name):
    return page.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_what_was_measured_of_a_run_stands_in_tables(evaluated, tmp_path):
    part = part_of(page_of([evaluated], tmp_path), "measured")
    for row in (
        '<th scope="row">accuracy</th><td class="n">0.750 [0.625, 0.875]</td><td class="n"></td>',
        '<th scope="row">NLL, nats (a coin: 0.693)</th><td class="n">0.625 [0.500, 0.750]</td>'
        '<td class="n">0.375 [0.250, 0.500]</td>',
        '<td class="n">7</td><td class="n">0.500 [0.375, 0.625]</td><td class="n">0.500 [0.375, 0.625]</td>',
        '<th scope="row">one prompt</th><td class="n">1</td><td class="n">1.00</td><td class="n">–</td>',
        '<th scope="col">domain, after one temperature of its own</th><th scope="col" class="n">NLL',
        "3 of these prompts were trained on too",
        "25% of the reference&#x27;s answers were cut",
        "0.600 [0.475, 0.725]",
        "cannot be told: all answers differ in length by the same",
        "5 / 2 / 3 of 11 prompts",
        "7.00 [6.88, 7.12] against 6.00 [5.88, 6.12]",
        "8 of 8",
    ):
        assert row in part, row


def test_markup_in_what_was_measured_is_text(evaluated, tmp_path):
    part = part_of(page_of([evaluated], tmp_path), "measured")
    assert "<img" not in part and "<script" not in part
    assert part.count("&lt;img") == 4 and HOSTILE[2] not in part


def test_what_was_measured_of_several_runs_stands_under_their_names(evaluated, learned, tmp_path):
    other = copied(evaluated, tmp_path / "other")
    part = part_of(page_of([evaluated, other], tmp_path), "measured")
    assert part.count("<h3>") == 2 and "<h3>other</h3>" in part
    assert part_of(page_of([learned], tmp_path), "measured") == ""


def test_a_run_in_progress_shows_what_is_there(learned, tmp_path):
    run = copied(learned, tmp_path / "run")
    for name in ("DONE", "summary.json", "samples.jsonl"):
        (run / name).unlink()
    report = write_report([run], tmp_path / "page.html")
    page = report.path.read_text(encoding="utf-8")
    assert report.problems == ()
    assert "The file DONE is not there: the run has not finished, or was stopped." in page
    assert "No answer was sampled: samples.jsonl is empty or not there." in page
    assert "loss" in {figure["name"] for figure in figures_of(page)}


def test_a_run_of_before_answers_were_kept_says_so(learned, tmp_path):
    import pyarrow.parquet as pq

    run = copied(learned, tmp_path / "run")
    pq.write_table(pq.read_table(run / "prompts.parquet").drop_columns(["chosen", "rejected"]), run / "prompts.parquet")
    assert "The run folder keeps no answers of the held-out pairs" in page_of([run], tmp_path)


def test_markup_in_prompts_answers_and_names_is_text(one):
    body = one.partition("<body>")[2].rpartition("<script>")[0].rpartition("<script>")[0]
    assert "<img" not in body and "onerror=&quot;" in body
    assert 'href="javascript' not in body and "<b>bold" not in body


def test_a_page_may_reach_nothing(one):
    assert "default-src 'none'; script-src 'sha256-" in one.replace("&#x27;", "'")
    head = one.partition("<script>")[0]
    assert "http" not in head.replace("http-equiv", "")


@pytest.mark.parametrize("seed", range(12))
def test_a_run_with_wrong_values_anywhere_still_gives_a_page(seed, learned):
    source = random.Random(seed)
    run = read_run(learned, "run")
    parts = ("config", "record", "metrics", "samples", "summary", "measured")
    run = replace(run, measured=EVALUATION)
    wrong = {name: spoiled(getattr(run, name), source) for name in parts}
    kept = {
        name: value if isinstance(value, type(getattr(run, name))) else getattr(run, name)
        for name, value in wrong.items()
    }
    for name in ("metrics", "samples"):
        kept[name] = [row for row in kept[name] if isinstance(row, dict)]
    page = run_page([replace(run, **kept)], "")
    assert page.startswith("<!doctype html>") and figures_of(page) is not None


@pytest.mark.parametrize(
    ("loss", "unit"),
    [("{}", "nats, mean over pairs"), ("{kind: hinge}", "mean over pairs"), ("{kind: [sigmoid, ipo]}", None)],
)
def test_the_axis_of_the_loss_says_nats_where_it_is_in_nats(loss, unit, learned, tmp_path):
    run = copied(learned, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["loss"] |= yaml.safe_load(loss)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (figure,) = [one for one in figures_of(page_of([run], tmp_path)) if one["name"] == "loss"]
    unit = unit or "mean over pairs"
    assert figure["layout"]["yaxis"]["title"]["text"] == unit and figure["heads"]["value"] == f"loss ({unit})"


def test_only_losses_that_there_are_are_said_to_be_in_nats():
    assert LOSSES.keys() > NATS
    assert {"hinge", "ipo", "sppo_hard", "apo_zero"}.isdisjoint(NATS)


def test_each_of_several_losses_has_its_own_unit(learned, tmp_path):
    other = copied(learned, tmp_path / "other")
    config = yaml.safe_load((other / "config.yaml").read_text())
    config["loss"]["kind"] = "hinge"
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    figures = {figure["name"]: figure for figure in figures_of(page_of([other, learned], tmp_path))}
    titles = [figures[f"loss-{number}"]["layout"]["yaxis"]["title"]["text"] for number in (1, 2)]
    assert titles == ["mean over pairs", "nats, mean over pairs"]


def test_both_components_of_the_hidden_states_have_their_unit(one):
    (figure,) = [figure for figure in figures_of(one) if figure["name"].startswith("hidden-states")]
    for axis in ("xaxis", "yaxis"):
        assert figure["layout"][axis]["title"]["text"].endswith(" principal component (units of the hidden state)")
    assert figure["heads"]["pc2"] == "second component (units of the hidden state)"
