import re

import numpy as np
import pytest
from bandit import PLAN, bandit_of

from betahead.compare.forecast import forecast, sentences
from betahead.compare.items import first_item, pool_items
from betahead.compare.markdown import markdown_of
from betahead.compare.plan import load_plan
from betahead.compare.pool import pool_of, searches_of
from betahead.compare.record import evidence_of
from betahead.compare.resolved import resolve
from betahead.compare.scope import HOLDS, Searches
from betahead.compare.work import worked_alone
from betahead.errors import ConfigError
from betahead.stats.paired import paired_interval

CELL = "bandit/one"
POOL = "configurations: 8, trials: 4, seeds: 2"


def resolved_of(configurations=32, trials=4, seeds=2, text=PLAN):
    pool = f"configurations: {configurations}, trials: {trials}, seeds: {seeds}"
    return resolve(load_plan(text.replace(POOL, pool)), bandit_of)


OF_SCOPE = {"configurations": {}, "pool": {"configurations": 31}, "search": {"configurations": 4}}


@pytest.mark.parametrize(
    ("configurations", "trials", "finals", "scope", "seed_sets"),
    [
        (240, 12, 20, "configurations", 20),
        (300, 12, 20, "configurations", 20),
        (239, 12, 20, "pool", 1),
        (32, 12, 20, "pool", 1),
        (12, 12, 20, "search", 1),
        (40, 1, 40, "configurations", 1),
        (24, 1, 40, "pool", 1),
    ],
)
def test_what_a_plan_is_about_follows_from_how_its_searches_share_the_pool(
    configurations, trials, finals, scope, seed_sets
):
    searches = Searches(configurations=configurations, trials=trials, finals=finals)
    assert (searches.scope, searches.seed_sets) == (scope, seed_sets)


def test_no_two_searches_share_a_configuration_or_a_tuning_seed():
    resolved = resolved_of()
    searches = searches_of(resolved)
    assert searches.shape == (8, 4) and len(np.unique(searches)) == 32
    seeds = [{seed for number in search for seed in resolved.seeds_of(number)} for search in searches.tolist()]
    assert [len(one) for one in seeds] == [2] * 8 and len(set.union(*seeds)) == 16
    assert set.union(*seeds) == set(resolved.tuning_seeds) and not set(resolved.tuning_seeds) & {*resolved.final_seeds}
    ran = {(number, seed) for item in pool_items(resolved) for number, seed in item.runs}
    assert ran >= {(number, seed) for number in range(32) for seed in resolved.seeds_of(number)}
    assert first_item(resolved, 7).runs == pool_items(resolved)[0].runs[:7]


def test_points_beyond_those_that_searches_need_take_the_seeds_of_the_first_ones_again():
    resolved = resolved_of(configurations=37)
    assert searches_of(resolved).max() == 31
    assert [resolved.seeds_of(number) for number in (32, 36)] == [resolved.seeds_of(number) for number in (0, 4)]


def test_overlapping_searches_and_those_of_one_trial_share_their_tuning_seeds():
    for resolved in (resolved_of(configurations=31), resolved_of(configurations=8, trials=1)):
        assert {resolved.seeds_of(number) for number in range(8)} == {resolved.tuning_seeds}
        assert len(resolved.tuning_seeds) == 2


def test_a_configuration_is_run_and_read_on_the_seeds_of_its_search():
    resolved = resolved_of()
    finished = worked_alone(resolved)
    world, pool = resolved.worlds[CELL], pool_of(resolved, "shifted")
    for number in (0, 5, 31):
        gold = (
            world.run("shifted", [pool[number]], resolved.seeds_of(number), split="eval").reward[0, :, -1].mean(axis=1)
        )
        np.testing.assert_allclose(finished.dev[CELL, "shifted"]["reward"][number], gold)


def test_the_mark_in_the_hash_is_that_of_plans_whose_searches_are_apart():
    assert resolved_of().to_dict()["searches"] == "apart"
    for other in ("pool", "search"):
        assert "searches" not in resolved_of(**OF_SCOPE[other]).to_dict()


def test_every_search_of_its_own_has_the_configurations_that_the_plan_includes():
    text = PLAN.replace("fixed: {}", "fixed: {include: [{learning_rate: 0.1, beta: 1.0}]}")
    resolved = resolved_of(text=text)
    pool, drawn = pool_of(resolved, "fixed"), pool_of(resolved_of(), "fixed")
    for search in searches_of(resolved).tolist():
        assert [pool[number] == {"learning_rate": 0.1, "beta": 1.0} for number in search] == [True, False, False, False]
        assert [pool[number] for number in search[1:]] == [drawn[number] for number in search[1:]]


def test_more_included_configurations_than_a_search_has_trials_are_refused():
    many = ", ".join(5 * ["{learning_rate: 0.1, beta: 1.0}"])
    with pytest.raises(
        ConfigError, match=re.escape("`methods.fixed.include` must hold at most `pool.trials` (4), but holds 5.")
    ):
        resolved_of(text=PLAN.replace("fixed: {}", f"fixed: {{include: [{many}]}}"))
    resolved_of(configurations=31, text=PLAN.replace("fixed: {}", f"fixed: {{include: [{many}]}}"))


def test_seeds_that_another_plan_tuned_on_are_counted_as_its_searches_took_them():
    # Its finals begin at 1,000,000: another plan with a seed of 1000 tunes there.
    resolved = resolved_of()
    for configurations, spent in ((32, 8), (31, 2)):
        pool = {"configurations": configurations, "trials": 4, "seeds": 2}
        other = {"seed": 1000, "finals": {"seeds": 8}, "pool": pool}
        assert len(resolved.spent_by(other)) == spent


@pytest.mark.parametrize("scope", OF_SCOPE)
def test_the_dry_run_the_evidence_and_its_words_say_what_they_are_about(scope):
    resolved = resolved_of(**OF_SCOPE[scope])
    found = forecast(resolved)
    assert found.scope == scope and found.configurations_for_all == 32
    (said,) = [line for line in sentences(found) if "intervals and p-values are" in line]
    assert f"intervals and p-values are {HOLDS[scope]}" in said
    assert ("at least 32 `pool.configurations` (trials × finals) mend it" in said) == (scope != "configurations")
    evidence = evidence_of(worked_alone(resolved), "betahead compare small.yaml")
    assert evidence.scope == scope
    (claim,), (test,) = evidence.claims, evidence.tests
    about = "" if scope == "configurations" else f", {HOLDS[scope]}"
    assert claim.sentence == f"shifted against fixed: {test.verdict} on 1 of 1 cell{about}."
    text = markdown_of(evidence)
    assert f"intervals and p-values are {HOLDS[scope]}" in text
    marks = {"configurations": "", "pool": " (this pool)", "search": " (this search)"}
    assert test.verdict == "better" and f"| **better**{marks[scope]} |" in text


def test_the_best_of_n_is_that_of_the_trials_of_one_search_where_searches_have_seeds_of_their_own():
    finished = worked_alone(resolved_of())
    rows = {
        row.n: row.value
        for row in evidence_of(finished, "x").panels.best_of_n
        if (row.cell, row.method) == (CELL, "fixed")
    }
    assert list(rows) == [1, 2, 4]
    means = [finished.dev[CELL, "fixed"][f"gold_at_kl_{at}"].mean(axis=1).reshape(8, 4) for at in range(2)]
    best = np.mean([mean.max(axis=1) for mean in means], axis=0)
    wanted = paired_interval(best[:, None], seed=0, replicates=500)
    assert rows[4].model_dump() == pytest.approx({"estimate": wanted.estimate, "low": wanted.low, "high": wanted.high})
    assert rows[1].estimate == pytest.approx(np.mean(means))


def test_the_spread_over_configurations_is_that_within_searches_where_they_have_seeds_of_their_own():
    finished = worked_alone(resolved_of())
    panels = evidence_of(finished, "x").panels

    def by_hand(method):
        dev = finished.dev[CELL, method]
        values = ((dev["gold_at_kl_0"] + dev["gold_at_kl_1"]) / 2).reshape(8, 4, 2)
        over_seeds = np.sqrt(values.var(axis=2, ddof=1).mean())
        return over_seeds, np.sqrt(values.mean(axis=2).var(axis=1, ddof=1).mean())

    for row in panels.stability:
        assert (row.sd_over_seeds, row.sd_over_configurations) == pytest.approx(by_hand(row.method))
    (row,) = [row for row in panels.spread if row.metric == "gold_at_matched_kl"]
    a, b = by_hand("shifted"), by_hand("fixed")
    assert row.over_seeds.estimate == pytest.approx(a[0] - b[0], abs=1e-12)
    assert row.over_configurations.estimate == pytest.approx(a[1] - b[1], abs=1e-12)


def test_a_final_follows_the_pick_of_its_own_search():
    finished = worked_alone(resolved_of())
    for search, number in zip(
        searches_of(finished.resolved).tolist(), finished.chosen[CELL, "fixed"]["gold_at_kl_1"].tolist(), strict=True
    ):
        assert number in search
