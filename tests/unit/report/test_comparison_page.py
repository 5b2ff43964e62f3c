import json
import random
from pathlib import Path

import pytest
from report_pages import column, figures_of, spoiled

from betahead.compare.scope import HOLDS
from betahead.report.comparison_page import comparison_page
from betahead.report.evidence_file import EvidenceFile
from betahead.report.searches import envelope
from betahead.report.written import write_report

PANELS = {
    "best_of_n": "This evidence holds no best-of-n values.",
    "cloud": "This evidence holds no rewards and KL of configurations.",
    "frontier": "Gold at matched KL was not read in this comparison.",
    "beta": "This evidence holds no β per topic.",
    "headroom": "This plan names no oracle to measure headroom against.",
    "label_noise": "The topics of these cells do not differ in label noise, so there is no sweep.",
    "measures": "This evidence measures no held-out probabilities.",
    "budget": "This evidence holds no budget.",
}


@pytest.fixture(scope="module")
def page(compared, tmp_path_factory):
    return write_report([compared], tmp_path_factory.mktemp("page") / "page.html").path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def evidence(compared):
    return json.loads((compared / "evidence.json").read_text(encoding="utf-8"))


def written(values, folder):
    (folder / "evidence.json").write_text(json.dumps(values), encoding="utf-8")
    report = write_report([folder])
    return report, report.path.read_text(encoding="utf-8")


def test_verdicts_in_words_come_before_any_number(page, evidence):
    main = page.partition("<main>")[2]
    assert main.startswith('<section id="verdicts">')
    for claim in evidence["claims"]:
        words = claim["sentence"]
        assert words[1:] in main.partition("<table")[0]


@pytest.mark.parametrize(
    ("scope", "begins"),
    [
        ("configurations", "Every final has a search of its own"),
        ("pool", "Searches overlap in one pool"),
        ("search", "Every search saw the whole pool"),
    ],
)
def test_for_what_the_verdicts_hold_stands_below_them(scope, begins, evidence, tmp_path):
    _, page = written({**evidence, "scope": scope}, tmp_path)
    assert begins in page and f"intervals and p-values are {HOLDS[scope]}" in page
    assert sum(f"intervals and p-values are {words}" in page for words in HOLDS.values()) == 1


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        ({"configurations": 16, "trials": 2}, HOLDS["configurations"]),
        ({"configurations": 4, "trials": 2}, HOLDS["pool"]),
        ({"configurations": 2, "trials": 2}, HOLDS["search"]),
        ({"configurations": 2}, None),
    ],
)
def test_older_evidence_has_the_scope_of_its_plan(pool, words, evidence, tmp_path):
    values = {name: value for name, value in evidence.items() if name != "scope"}
    plan = {**evidence["plan"], "plan": {**evidence["plan"]["plan"], "pool": pool}}
    _, page = written({**values, "plan": plan}, tmp_path)
    assert [one for one in HOLDS.values() if f"intervals and p-values are {one}" in page] == ([words] if words else [])


def test_every_part_of_a_comparison_has_its_figure(page):
    figures = {figure["name"]: figure for figure in figures_of(page)}
    assert {
        "effects",
        "best-of-n",
        "reward-kl",
        "beta-by-topic",
        "label-noise",
        "calibration-nll",
        "calibration-ece",
    } <= (figures.keys())
    for name in ("effects", "best-of-n", "reward-kl", "calibration-nll"):
        assert [panel["label"] for panel in figures[name]["panels"]] == ["tabular/half_noise", "tabular/rare_noise"]
        assert figures[name]["choice"] == "cell"


def test_figures_hold_what_the_evidence_holds(page, evidence):
    figures = {figure["name"]: figure for figure in figures_of(page)}
    found = [row["value"]["estimate"] for row in evidence["panels"]["best_of_n"]]
    assert sorted(column(figures["best-of-n"], "value")) == pytest.approx(sorted(found), rel=1e-5)
    cloud = figures["reward-kl"]
    dots = [kl for kl, what in zip(column(cloud, "kl"), column(cloud, "what"), strict=True) if what == "configuration"]
    assert sorted(dots) == pytest.approx(sorted(row["kl"] for row in evidence["panels"]["cloud"]), rel=1e-5)


def test_beta_of_a_topic_stands_against_that_of_the_oracle(page, evidence):
    figure = next(figure for figure in figures_of(page) if figure["name"] == "beta-by-topic")
    truth = {
        (row["cell"], row["topic"]): row["beta"] for row in evidence["panels"]["beta"] if row["method"] == "oracle"
    }
    rows = zip(*(column(figure, name) for name in ("cell", "topic", "oracle", "method")), strict=True)
    drawn = [(cell, topic, oracle) for cell, topic, oracle, method in rows if method == "fixed"]
    assert len(drawn) == len(truth)
    assert all(oracle == pytest.approx(truth[cell, topic], rel=1e-5) for cell, topic, oracle in drawn)


def test_the_envelope_is_the_most_reward_at_no_more_than_a_kl():
    rows = [{"kl": kl, "reward": reward} for kl, reward in ((0.0, 0.1), (1.0, 0.3), (2.0, 0.2), (3.0, 0.4), (4.0, 0.1))]
    assert [(row["kl"], row["reward"]) for row in envelope(rows)] == [(0.0, 0.1), (1.0, 0.3), (3.0, 0.4), (4.0, 0.4)]
    assert envelope([]) == []


@pytest.mark.parametrize(("panel", "sentence"), PANELS.items())
def test_a_table_that_is_not_there_is_a_sentence(panel, sentence, evidence, tmp_path):
    values = {**evidence, "panels": {name: rows for name, rows in evidence["panels"].items() if name != panel}}
    report, page = written(values, tmp_path)
    assert sentence in page and report.problems == ()


def test_evidence_of_another_version_gives_what_it_has(tmp_path):
    _, page = written({"name": "old", "question": "Why?", "claims": [{"sentence": "a against b: better."}]}, tmp_path)
    assert "Why?" in page and "a against b: better." in page and "This evidence holds no test." in page


def test_keys_that_are_not_known_do_not_disturb(evidence, tmp_path):
    panels = {
        **evidence["panels"],
        "frontier_bands": [{"cell": 1}],
        "cloud": [*evidence["panels"]["cloud"], "x", {"kl": 1}],
    }
    report, _ = written({**evidence, "panels": panels}, tmp_path)
    assert report.problems == ()


@pytest.mark.parametrize("text", ["{", "[]", "null"])
def test_evidence_that_cannot_be_read_is_a_page_that_says_so(text, tmp_path):
    (tmp_path / "evidence.json").write_text(text)
    report = write_report([tmp_path])
    assert "This folder holds no evidence that can be read." in report.path.read_text(encoding="utf-8")
    assert len(report.problems) == 1 and "evidence.json cannot be read" in report.problems[0]


def test_placebos_wait_for_a_click_and_methods_of_claims_do_not(compared):
    found = EvidenceFile(path=compared, values=json.loads((compared / "evidence.json").read_text()))
    assert found.prominent == {"fixed", "joint_plus", "oracle"}
    assert found.oracle == "oracle"


@pytest.mark.parametrize("seed", range(12))
def test_evidence_with_wrong_values_anywhere_still_gives_a_page(seed, evidence):
    values = spoiled(evidence, random.Random(seed))
    values = values if isinstance(values, dict) else {}
    page = comparison_page(EvidenceFile(path=Path("x"), values=values), "")
    assert page.startswith("<!doctype html>") and figures_of(page) is not None
