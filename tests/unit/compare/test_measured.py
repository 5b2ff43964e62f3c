"""Measures in a comparison: they can decide, with less being better; else they are read where the metric is."""

from dataclasses import replace

import numpy as np
import pytest
from bandit import PLAN, GaussianBandit, bandit_of

from betahead.compare.evidence import Evidence
from betahead.compare.judged import differences, final_values, measured_finals, picked_rows
from betahead.compare.markdown import markdown_of
from betahead.compare.plan import load_plan
from betahead.compare.pool import searches_of
from betahead.compare.record import evidence_of
from betahead.compare.resolved import Test, resolve
from betahead.compare.work import worked_alone
from betahead.errors import ConfigError
from betahead.worlds.outcome import PromptTopics

NAMES = ("answer_tokens", "held_out_nll", "unrelated_kl", "trained_tokens")
METHODS = "methods:\n  fixed: {}\n  copy: {}\n  unstable: {}\n"
TEXT = PLAN.replace("methods:\n", METHODS.replace("  fixed: {}\n", "")).replace(
    "  - {a: shifted, b: fixed}", "  - {a: shifted, b: fixed}\n  - {a: copy, b: fixed}\n  - {a: unstable, b: fixed}"
)


class MeasuredBandit(GaussianBandit):
    """The bandit with measures that follow μ: NLL is least at μ = 0.6, and `shifted` has 0.05 less of it."""

    def measures(self):
        return NAMES

    def run(self, method, configurations, seeds, *, split):
        found = super().run(method, configurations, seeds, split=split)
        mean = np.sqrt(2 * found.kl).mean(-1)
        nll = (
            0.7
            + 0.5 * ((mean - 0.6) ** 2 - 0.36)
            - (0.05 * np.minimum(mean / 0.1, 1.0) if method == "shifted" else 0.0)
        )
        tokens = np.broadcast_to(1000.0 * np.array(found.checkpoints), mean.shape)
        measures = dict(zip(NAMES, (20 + 5 * mean, nll, 0.1 * mean**2, tokens), strict=True))
        if method == "unstable":
            gone = np.isnan(found.reward[..., 0])
            measures = {name: np.where(gone, np.nan, value) for name, value in measures.items()}
        topics = PromptTopics(of_prompt=np.array([0, 0, 1, 2]), label_noise=(0.0, 0.3, 0.3))
        return replace(found, measures=measures, topics=topics)


def measured_of(cell):
    return MeasuredBandit(cell, same_prompts=cell.endswith("/shared"))


def worked(metric="", text=TEXT, cell="bandit/one"):
    text = text.replace("finals:", f"{metric}\nfinals:").replace("bandit/one", cell)
    return worked_alone(resolve(load_plan(text), measured_of))


LOWER = "metric: {primary: held_out_nll, secondary: [answer_tokens, gold_at_matched_kl]}"


@pytest.fixture(scope="module")
def lower():
    return worked(LOWER)


@pytest.fixture(scope="module")
def gold():
    return worked("metric: {secondary: [held_out_nll, answer_tokens]}")


def test_a_measure_of_which_less_is_better_can_decide(lower):
    evidence = evidence_of(lower, "betahead compare lower.yaml")
    verdicts = {one.a: (one.verdict, one.effect.estimate) for one in evidence.tests}
    assert verdicts["shifted"][0] == "better" and verdicts["shifted"][1] == pytest.approx(0.05, abs=0.01)
    assert verdicts["copy"] == ("equivalent", 0.0)
    assert (evidence.metric, evidence.better) == ("held_out_nll", "lower")
    text = markdown_of(evidence)
    assert "Effect: B minus A with its interval, because less held_out_nll is better." in text
    a, b = (final_values(lower, "bandit/one", name, "held_out_nll") for name in ("shifted", "fixed"))
    np.testing.assert_array_equal(differences(lower, "bandit/one", Test(a="shifted", b="fixed"), "held_out_nll"), b - a)
    assert a.shape == (8, 1)


def test_a_search_picks_the_least_of_a_measure_of_which_less_is_better(lower):
    dev = lower.dev["bandit/one", "fixed"]["held_out_nll"].mean(axis=1)
    chosen = lower.chosen["bandit/one", "fixed"]
    assert set(chosen) == {"held_out_nll", "gold_at_kl_0", "gold_at_kl_1"}
    for search, number in zip(searches_of(lower.resolved), chosen["held_out_nll"], strict=True):
        assert dev[number] == dev[search].min()


def test_the_best_of_more_trials_is_less_where_less_is_better(lower):
    rows = [row for row in evidence_of(lower, "x").panels.best_of_n if row.method == "fixed"]
    values = [row.value.estimate for row in rows]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] > 0
    assert all(row.value.low <= row.value.estimate <= row.value.high for row in rows[:-1])


def test_a_measure_beside_gold_is_read_in_the_picked_runs_where_gold_is_read(gold):
    # KL targets 0.02 and 0.1, each with its own pick; on the way √KL, hence μ, is a straight line.
    found = measured_finals(gold, "bandit/one", "fixed", "answer_tokens")
    assert set(gold.chosen["bandit/one", "fixed"]) == {"gold_at_kl_0", "gold_at_kl_1"}
    scores = gold.finals["bandit/one", "fixed"][1]
    wanted = []
    for component, rows in picked_rows(gold, "bandit/one", "fixed", "gold_at_matched_kl").items():
        target = {"gold_at_kl_0": 0.02, "gold_at_kl_1": 0.1}[component]
        ends = scores.path[rows, -1, 1]
        wanted.append(20 + 5 * np.sqrt(2 * np.minimum(ends, target)))
    np.testing.assert_allclose(found, np.mean(wanted, axis=0), rtol=2e-3)
    np.testing.assert_array_equal(final_values(gold, "bandit/one", "fixed", "answer_tokens")[:, 0], found)


def test_secondary_measures_have_effects_by_their_better_side(gold):
    evidence = evidence_of(gold, "x")
    found = {(one.metric, one.a): one for one in evidence.secondary}
    assert found["held_out_nll", "shifted"].better == "lower"
    assert found["held_out_nll", "shifted"].effect.estimate == pytest.approx(0.05, abs=0.01)
    assert found["answer_tokens", "shifted"].better is None
    assert {row.metric for row in evidence.panels.headline} == {"gold_at_matched_kl"}
    assert "| held_out_nll | bandit/one | shifted | fixed |" in markdown_of(evidence)


def test_a_run_that_diverged_counts_with_its_worst_measure_or_has_none(lower):
    world, resolved = measured_of("bandit/one"), lower.resolved
    runs, scores = lower.finals["bandit/one", "unstable"]
    pool = lower.pools["bandit/one", "unstable"]
    assert not pool.finite.all()
    # The reference's NLL, 0.7, is the worst of any run on the way to μ = 1; on dev and test alike.
    np.testing.assert_allclose(pool.of("held_out_nll")[~pool.finite], 0.7)
    assert np.isnan(pool.measured["answer_tokens"][~pool.finite]).all()
    assert np.isfinite(pool.measured["answer_tokens"][pool.finite]).all()
    assert len(runs) == len(scores.finite) and set(world.measures()) == set(scores.measured)
    assert resolved.picked_components("bandit/one") == ("held_out_nll", "gold_at_kl_0", "gold_at_kl_1")


def test_measures_of_finals_without_a_number_are_left_out_and_counted():
    # Every configuration of `unstable` diverges.
    text = TEXT.replace("learning_rate: {low: 0.01", "learning_rate: {low: 0.11")
    evidence = evidence_of(worked("metric: {secondary: [answer_tokens]}", text), "x")
    found = {(row.method, row.measure): row for row in evidence.panels.measures}
    assert found["unstable", "answer_tokens"].finals == 0 and found["unstable", "answer_tokens"].value is None
    assert found["unstable", "held_out_nll"].value.estimate == pytest.approx(0.7)
    assert found["fixed", "answer_tokens"].finals == 8
    assert ("unstable", "fixed") not in {(one.a, one.b) for one in evidence.secondary}
    assert {row.tokens for row in evidence.panels.compute if row.method == "unstable"} == {None}


def test_the_effect_by_noise_is_that_on_the_prompts_of_the_topics(gold):
    evidence = evidence_of(gold, "x")
    rows = {(row.a, row.noise): row for row in evidence.panels.label_noise}
    assert {noise for _, noise in rows} == {0.0, 0.3} and rows["shifted", 0.3].topics == 2
    # Topics of two, one and one prompts: together they are the effect of the test.
    (test,) = [one for one in evidence.tests if one.a == "shifted"]
    together = 0.5 * rows["shifted", 0.0].effect.estimate + 0.5 * rows["shifted", 0.3].effect.estimate
    assert together == pytest.approx(test.effect.estimate, rel=1e-9)
    assert "| cell | A | B | noise 0% | noise 30% |" in markdown_of(evidence)


def test_shared_prompts_keep_their_units_and_a_measure_has_one():
    shared = worked(LOWER, cell="bandit/shared")
    assert final_values(shared, "bandit/shared", "fixed", "gold_at_matched_kl").shape == (8, 4)
    assert final_values(shared, "bandit/shared", "fixed", "held_out_nll").shape == (8, 1)
    assert not evidence_of(shared, "x").panels.label_noise, "a measure is not read by topic"


def test_spread_is_compared_over_the_whole_pool(gold):
    rows = {row.a: row for row in evidence_of(gold, "x").panels.spread if row.metric == "gold_at_matched_kl"}

    def by_hand(method):
        dev = gold.dev["bandit/one", method]
        values = (dev["gold_at_kl_0"] + dev["gold_at_kl_1"]) / 2
        return np.sqrt(values.var(axis=1, ddof=1).mean()), values.mean(axis=1).std(ddof=1)

    for number, name in enumerate(("over_seeds", "over_configurations")):
        found = getattr(rows["unstable"], name)
        assert found.estimate == pytest.approx(by_hand("unstable")[number] - by_hand("fixed")[number])
        assert found.low <= found.estimate <= found.high
    assert rows["copy"].over_configurations.estimate == rows["copy"].over_configurations.high == 0.0


def test_compute_is_the_mean_of_all_runs_and_tokens_are_undefined_where_there_are_none(gold):
    (row,) = [row for row in evidence_of(gold, "x").panels.compute if row.method == "fixed"]
    assert row.runs == 16 + len(gold.finals["bandit/one", "fixed"][0]) and row.tokens == 1000.0
    assert row.seconds == pytest.approx(gold.seconds["bandit/one", "fixed"] / row.runs) and 0.01 < row.peak_gib < 100
    plain = evidence_of(worked_alone(resolve(load_plan(PLAN), bandit_of)), "x")
    assert {row.tokens for row in plain.panels.compute} == {None}
    text = markdown_of(plain)
    assert "| fixed | " in text and "| undefined |" in text
    assert "- `answer_tokens` (tokens): length of the policy's own answers. No cell has it." in text
    assert not plain.panels.label_noise and not plain.panels.measures


def test_the_report_has_a_table_for_each_group_of_measures(gold):
    evidence = evidence_of(gold, "x")
    assert Evidence.model_validate(evidence.model_dump(mode="json")) == evidence
    text = markdown_of(evidence)
    for head in ("Held-out pairs", "Answers of the policy", "Retention", "Effect by label noise", "Compute"):
        assert f"## {head}" in text
    assert "| cell | method | held_out_nll |" in text and "| cell | method | answer_tokens |" in text
    assert "- `held_out_nll` (nats, less is better): NLL of σ(β(x)·h)." in text
    assert "- `held_out_ece` (less is better): calibration error of σ(β(x)·h), 15 bins. No cell has it." in text
    for part in text.split("\n\n"):
        assert len({line.count("|") for line in part.splitlines() if line.startswith("|")}) <= 1


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (
            "metric: {primary: held_out_ece}",
            "`metric` must be measured in every cell, but bandit/one has no held_out_ece; it has answer_tokens, "
            "held_out_nll, unrelated_kl, trained_tokens.",
        ),
        (
            "metric: {secondary: [elegance]}",
            "`metric.secondary` must be one of gold_at_matched_kl, gold_minus_kappa_kl, reward, win_rate, "
            "answer_tokens, ",
        ),
        (
            "metric: {primary: answer_tokens}",
            "`metric.primary` must have a better side, but answer_tokens has none; a measure that has is one of "
            "held_out_accuracy, held_out_nll, ",
        ),
    ],
)
def test_a_metric_that_cannot_be_used_is_refused(metric, sentence):
    with pytest.raises(ConfigError) as caught:
        worked(metric)
    assert sentence in str(caught.value)


def test_a_world_that_measures_nothing_more_has_no_measure_for_a_metric():
    text = PLAN.replace("finals:", "metric: {primary: held_out_nll}\nfinals:")
    with pytest.raises(ConfigError) as caught:
        resolve(load_plan(text), bandit_of)
    assert str(caught.value) == (
        "`metric` must be measured in every cell, but bandit/one has no held_out_nll; it measures gold and KL alone."
    )
