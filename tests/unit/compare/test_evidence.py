import json
from dataclasses import replace

import numpy as np
import pytest
from bandit import PLAN, GaussianBandit, bandit_of
from pydantic import ValidationError

from betahead.compare.comparison import compare, finished_evidence, folder_of, storage_of
from betahead.compare.evidence import SCHEMA, Evidence, published_schema
from betahead.compare.judged import differences, final_values, judge
from betahead.compare.markdown import markdown_of
from betahead.compare.panels import panels_of
from betahead.compare.plan import load_plan
from betahead.compare.pool import pool_of, searches_of
from betahead.compare.record import evidence_of
from betahead.compare.resolved import Test, resolve
from betahead.compare.score import scores_of
from betahead.compare.tables import settled_by
from betahead.compare.work import worked_alone
from betahead.errors import ConfigError
from betahead.stats.multiple import holm
from betahead.stats.selection import Pool, best_of_n

FULL = """\
name: full
question: What does a comparison of everything look like?
cells: [bandit/one, bandit/shared]
methods: {fixed: {}, copy: {}, shifted: {}, "permuted:shifted": {}, "matched:shifted": {}, unstable: {}, oracle: {}}
axes:
  learning_rate: {low: 0.02, high: 0.3}
  beta: {low: 0.1, high: 2.0}
pool: {configurations: 8, trials: 4, seeds: 2}
finals: {seeds: 10}
metric: {secondary: [gold_minus_kappa_kl, win_rate]}
rope: 0.01
comparisons:
  - {a: shifted, b: fixed, claim: mechanism}
  - {a: shifted, b: copy, claim: mechanism, placebo: "matched:shifted"}
  - {a: copy, b: fixed}
  - {a: unstable, b: fixed}
  - {a: oracle, b: fixed, claim: bound}
headroom: {fixed: fixed, oracle: oracle, learned: [shifted, copy]}
"""


@pytest.fixture(scope="module")
def finished():
    return worked_alone(resolve(load_plan(FULL), bandit_of))


@pytest.fixture(scope="module")
def evidence(finished):
    return evidence_of(finished, "betahead compare full.yaml")


def verdict(evidence, a, b, cell="bandit/one"):
    (found,) = [one.verdict for one in evidence.tests if (one.a, one.b, one.cell) == (a, b, cell)]
    return found


def test_the_published_schema_is_that_of_the_models():
    assert SCHEMA.read_text(encoding="utf-8") == published_schema()


def test_evidence_goes_through_json_and_fits_its_schema(evidence):
    text = json.dumps(evidence.model_dump(mode="json"), allow_nan=False)
    assert Evidence.model_validate(json.loads(text)) == evidence
    with pytest.raises(ValidationError, match="more_keys"):
        Evidence.model_validate({**json.loads(text), "more_keys": 1})


@pytest.mark.parametrize("cell", ["bandit/one", "bandit/shared"])
def test_a_planted_gain_is_better_than_fixed_and_than_the_placebo(evidence, cell):
    assert (
        verdict(evidence, "shifted", "fixed", cell)
        == verdict(evidence, "shifted", "permuted:shifted", cell)
        == "better"
    )
    assert verdict(evidence, "copy", "fixed", cell) == "equivalent"


def test_claims_are_counted_over_cells_in_plain_words(evidence):
    about = "for this pool of configurations only"
    assert [claim.sentence for claim in evidence.claims] == [
        f"the mechanism of shifted (better than fixed, its parent and its placebo): shown on 2 of 2 cells, {about}.",
        "the mechanism of shifted (better than copy, its parent and its placebo): not shown on 2 (no better than its "
        f"placebo on 2) of 2 cells, {about}.",
        f"copy against fixed: equivalent on 2 of 2 cells, {about}.",
        f"unstable against fixed: {evidence.claims[3].cells[0].verdict} on 2 of 2 cells, {about}.",
        f"oracle (which reads the truth) against fixed: better on 2 of 2 cells, {about}.",
    ]


def test_a_mechanism_that_is_not_shown_names_whom_it_does_not_beat_and_how_far_its_beta_differs(evidence):
    claim = evidence.claims[1]
    assert [cell.no_better_than for cell in claim.cells] == [["placebo"], ["placebo"]]
    assert claim.cells[0].against == {"copy": "better", "fixed": "better", "matched:shifted": "equivalent"}
    assert [cell.beta_ratio for cell in claim.cells] == pytest.approx([1.0, 1.0])
    text = markdown_of(evidence)
    assert "| not shown: no better than its placebo (β ×1) |" in text
    assert "In brackets: the largest β of a topic over the smallest, at the end of A's finals." in text


def test_finals_are_scored_on_test_and_the_pool_on_dev_with_other_seeds():
    resolved = resolve(load_plan(FULL), bandit_of)
    done = worked_alone(resolved)
    for cell, world in resolved.worlds.items():
        assert {(tuple(seeds), split) for _, _, seeds, split in world.calls if split == "eval"} == {
            (resolved.tuning_seeds, "eval")
        }
        asked = [seed for _, _, seeds, split in world.calls if split == "test" for seed in seeds]
        assert set(asked) == set(resolved.final_seeds) and not set(asked) & set(resolved.tuning_seeds)
        # The numbers that are judged are those of test, run by run.
        runs, scores = done.finals[cell, "fixed"]
        (number, seed), pool = runs[0], pool_of(resolved, "fixed")
        for split, alike in (("test", True), ("eval", False)):
            outcome = world.run("fixed", [pool[number]], [seed], split=split)
            again = scores_of(outcome, resolved.targets[cell], resolved.plan.metric.kappas).path
            assert np.array_equal(again[0], scores.path[0]) == alike


def test_holm_runs_over_all_cells_or_over_the_tests_of_each(finished):
    together = judge(finished).decisions
    apart = judge(replace(finished, resolved=resolve(load_plan(FULL + "holm: per_cell\n"), bandit_of))).decisions
    assert list(together) == [(test, cell) for cell in finished.resolved.plan.cells for test in finished.resolved.tests]
    np.testing.assert_allclose(
        [its.p_holm for its in together.values()], holm(np.array([its.p for its in together.values()]))
    )
    for cell in finished.resolved.plan.cells:
        of_cell = [its for (_, where), its in apart.items() if where == cell]
        np.testing.assert_allclose([its.p_holm for its in of_cell], holm(np.array([its.p for its in of_cell])))
    assert [its.p for its in together.values()] == [its.p for its in apart.values()]
    assert max(its.p_holm / apart[key].p_holm for key, its in together.items()) >= 1.9


def test_runs_that_diverge_are_counted_and_kept(finished, evidence):
    (row,) = [one for one in evidence.panels.stability if (one.cell, one.method) == ("bandit/one", "unstable")]
    above = np.mean([one["learning_rate"] > 0.1 for one in pool_of(finished.resolved, "unstable")])
    assert row.pool == pytest.approx(above) and above > 0
    assert len(finished.dev["bandit/one", "unstable"]["gold_at_kl_0"]) == 8
    assert [one.finals for one in evidence.panels.stability if one.method == "fixed"] == [0.0, 0.0]


def test_differences_pair_the_same_search_and_seed(finished):
    test = Test(a="shifted", b="fixed")
    found = differences(finished, "bandit/shared", test, "gold_at_matched_kl")
    assert found.shape == (10, 4)
    a, b = (final_values(finished, "bandit/shared", method, "gold_at_matched_kl") for method in ("shifted", "fixed"))
    np.testing.assert_allclose(found, a - b)
    # Final 3, by hand: its search's best configuration at each KL, run on its seed.
    resolved = finished.resolved
    search = searches_of(resolved)[3]
    by_hand = []
    for number in range(2):
        dev = finished.dev["bandit/shared", "fixed"][f"gold_at_kl_{number}"].mean(axis=1)
        best = int(search[np.argmax(dev[search])])
        runs, scores = finished.finals["bandit/shared", "fixed"]
        by_hand.append(scores.values[f"gold_at_kl_{number}"][runs.index((best, resolved.final_seeds[3]))])
    np.testing.assert_allclose(b[3], np.mean(by_hand, axis=0))


def test_the_best_of_n_curve_is_that_of_the_statistics(finished, evidence):
    dev = finished.dev["bandit/one", "fixed"]
    for row in evidence.panels.best_of_n:
        if (row.cell, row.method) == ("bandit/one", "fixed"):
            means = [dev[f"gold_at_kl_{number}"].mean(axis=1) for number in range(2)]
            wanted = np.mean([best_of_n(Pool(dev=mean, test=mean), row.n) for mean in means])
            assert row.value.estimate == pytest.approx(wanted)


def test_headroom_captured_is_the_share_of_what_the_oracle_wins(evidence):
    captured = {(row.cell, row.method): row.captured for row in evidence.panels.headroom}
    assert captured["bandit/one", "shifted"].estimate == pytest.approx(1.0, abs=0.05)
    assert captured["bandit/one", "copy"].estimate == 0.0


def test_headroom_captured_is_undefined_where_there_is_nothing_to_win():
    text = FULL.replace("rope: 0.01", "rope: 0.5")
    panels = panels_of(worked_alone(resolve(load_plan(text), bandit_of)))
    assert [row.captured for row in panels.headroom] == [None] * 4


class Fickle(GaussianBandit):
    """A world in which `shifted` gains more in some seeds than in others."""

    def run(self, method, configurations, seeds, *, split):
        out = super().run(method, configurations, seeds, split=split)
        luck = [np.random.default_rng([seed, 9]).normal(0.0, 0.02) for seed in seeds]
        return replace(out, reward=out.reward + np.array(luck)[:, None, None]) if method == "shifted" else out


def test_only_an_inconclusive_test_says_how_many_finals_would_settle_it():
    text = PLAN.replace("  fixed: {}", "  fixed: {}\n  copy: {}").replace("seeds: 8", "seeds: 10")
    finished = worked_alone(
        resolve(load_plan(text + "  - {a: copy, b: fixed}\n"), lambda cell: Fickle(cell, gain=0.01))
    )
    evidence = evidence_of(finished, "betahead compare small.yaml")
    open_, settled = evidence.tests
    assert (open_.verdict, settled.verdict) == ("inconclusive", "equivalent")
    assert settled.finals_to_settle is None and open_.finals_to_settle.if_zero > 10
    assert f"| {settled_by(open_)} |" in markdown_of(evidence)
    assert settled_by(settled) == "" and settled_by(open_).count(" · ") == 2


def test_every_method_has_the_same_budget(evidence):
    rows = evidence.panels.budget
    assert {(row.configurations, row.trials, row.tuning_seeds, row.pool_runs) for row in rows} == {(8, 4, 2, 32)}
    assert {row.method: len(row.axes) for row in rows}["shifted"] == 3


def test_secondary_metrics_have_effects_and_no_verdict(finished, evidence):
    assert {one.metric for one in evidence.secondary} == {"gold_minus_kappa_kl", "win_rate"}
    assert len(evidence.secondary) == 2 * len(finished.resolved.tests) * 2


def test_the_report_shows_the_hash_every_test_and_the_command(evidence):
    text = markdown_of(evidence)
    assert evidence.plan_hash in text and "betahead compare full.yaml" in text
    assert text.count("| **") == len(evidence.tests)
    for head in (
        "Claims",
        "Tests",
        "Other metrics",
        "Budget",
        "Best of n",
        "Gold at matched KL",
        "Headroom",
        "Stability",
    ):
        assert f"## {head}" in text
    widths = {line.count("|") for line in text.split("## Tests")[1].split("##")[0].splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_a_comparison_writes_its_folder_and_is_read_from_it_again(tmp_path):
    resolved = resolve(load_plan(PLAN), bandit_of)
    folder = folder_of(resolved, tmp_path / "out")
    first = compare(resolved, folder, storage_of(folder), "betahead compare small.yaml")
    calls = len(resolved.worlds["bandit/one"].calls)
    (folder / "work.db").unlink()
    assert compare(resolved, folder, storage_of(folder), "again") == first
    assert len(resolved.worlds["bandit/one"].calls) == calls
    assert (folder / "evidence.md").read_text(encoding="utf-8") == markdown_of(first)


def test_a_folder_with_the_evidence_of_a_changed_plan_is_refused(tmp_path):
    resolved = resolve(load_plan(PLAN), bandit_of)
    compare(resolved, tmp_path, storage_of(tmp_path), "first")
    changed = resolve(load_plan(PLAN.replace("rope: 0.01", "rope: 0.02")), bandit_of)
    with pytest.raises(ConfigError, match="The plan small must stay as it is after its test was opened"):
        finished_evidence(changed, tmp_path)
    (tmp_path / "evidence.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"evidence\.json must be the evidence of a comparison, but is not; move it"):
        finished_evidence(resolved, tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--output must be a folder, but .*file cannot be made \(File exists\)\."):
        folder_of(resolve(load_plan(PLAN), bandit_of), tmp_path / "file")
