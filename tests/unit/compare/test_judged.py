"""What a comparison comes to, against the same done by hand: one run at a time, in plain loops."""

import numpy as np
import pytest
from bandit import PLAN, bandit_of

from betahead.compare.judged import differences, final_values, judge
from betahead.compare.plan import load_plan
from betahead.compare.pool import pool_of, searches_of
from betahead.compare.resolved import Test, resolve
from betahead.compare.score import scores_of
from betahead.compare.work import worked_alone
from betahead.stats.multiple import holm
from betahead.stats.paired import sign_flip_p

FULL = (
    PLAN.replace("[bandit/one]", "[bandit/nested, bandit/shared]")
    .replace("finals: {seeds: 8}", "finals: {seeds: 10}")
    .replace("  fixed: {}", "  fixed: {}\n  copy: {}\n  unstable: {}\n  'permuted:shifted': {}")
    + "  - {a: shifted, b: copy, claim: mechanism}\n  - {a: unstable, b: fixed}\n"
    + "metric: {secondary: [gold_minus_kappa_kl, win_rate], kappas: [0.1, 1.0]}\n"
)


def resolved_of(text=FULL):
    return resolve(load_plan(text), bandit_of)


def by_hand(finished, cell, method, component):
    """Of every final: the best mean on dev of what its search saw, trained on its seed, scored on test."""
    resolved = finished.resolved
    world, pool = resolved.worlds[cell], pool_of(resolved, method)

    def worth(number, seed, split):
        outcome = world.run(method, [pool[number]], [seed], split=split)
        return scores_of(outcome, resolved.targets[cell], resolved.plan.metric.kappas).values[component][0]

    tuned = [np.mean([worth(number, seed, "eval").mean() for seed in resolved.tuning_seeds]) for number in range(8)]
    np.testing.assert_allclose(finished.dev[cell, method][component].mean(axis=1), tuned, rtol=1e-12)
    picked = [max(search, key=lambda number: tuned[number]) for search in searches_of(resolved).tolist()]
    return np.stack([worth(number, seed, "test") for number, seed in zip(picked, resolved.final_seeds, strict=True)])


@pytest.fixture(scope="module")
def finished():
    return worked_alone(resolved_of())


@pytest.mark.parametrize("cell", ["bandit/nested", "bandit/shared"])
@pytest.mark.parametrize("method", ["shifted", "unstable"])
@pytest.mark.parametrize(
    ("metric", "components"),
    [
        ("gold_at_matched_kl", ("gold_at_kl_0", "gold_at_kl_1")),
        ("gold_minus_kappa_kl", ("gold_minus_kl_0", "gold_minus_kl_1")),
        ("win_rate", ("win_rate",)),
    ],
)
def test_a_final_is_worth_what_loops_over_single_runs_say(finished, cell, method, metric, components):
    expected = np.mean([by_hand(finished, cell, method, one) for one in components], axis=0)
    found = final_values(finished, cell, method, metric)
    assert found.shape == ((10, 4) if cell.endswith("shared") else (10, 1))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_difference_is_a_minus_b_on_the_same_final(finished):
    found = differences(finished, "bandit/nested", Test(a="shifted", b="fixed"), "gold_at_matched_kl")
    a, b = (final_values(finished, "bandit/nested", name, "gold_at_matched_kl") for name in ("shifted", "fixed"))
    np.testing.assert_array_equal(found, a - b)
    assert found.mean() > 0.03, "shifted gains 0.05 wherever it has moved"


def p_of(finished, test, cell):
    return sign_flip_p(differences(finished, cell, test, "gold_at_matched_kl").mean(axis=1))


def test_holm_corrects_over_all_tests_and_cells_or_within_each_cell(finished):
    resolved = finished.resolved
    assert resolved.family == 8
    keys = [(test, cell) for cell in resolved.plan.cells for test in resolved.tests]
    together = dict(zip(keys, holm(np.array([p_of(finished, *key) for key in keys])), strict=True))
    decisions = judge(finished).decisions
    assert {key: decisions[key].p_holm for key in keys} == pytest.approx(together)
    apart = worked_alone(resolved_of(FULL + "holm: per_cell\n"))
    for cell in resolved.plan.cells:
        corrected = holm(np.array([p_of(finished, test, cell) for test in resolved.tests]))
        found = judge(apart).decisions
        np.testing.assert_allclose([found[test, cell].p_holm for test in resolved.tests], corrected)


def test_a_gain_that_parent_and_placebo_lack_is_shown(finished):
    claims = {(one.a, one.b): cells for one, cells in judge(finished).claims}
    assert [cell.cell for cell in claims["shifted", "copy"]] == ["bandit/nested", "bandit/shared"]
    for cell in claims["shifted", "copy"]:
        assert cell.against == {"copy": "better", "fixed": "better", "permuted:shifted": "better"}
        assert (cell.verdict, cell.no_better_than) == ("shown", ())


def test_a_mechanism_that_its_placebo_equals_names_the_placebo():
    text = PLAN.replace("  fixed: {}", "  fixed: {}\n  'matched:shifted': {}").replace(
        "{a: shifted, b: fixed}", "{a: shifted, b: fixed, claim: mechanism, placebo: 'matched:shifted'}"
    )
    ((_, (cell,)),) = judge(worked_alone(resolved_of(text))).claims
    assert cell.against == {"fixed": "better", "matched:shifted": "equivalent"}
    assert (cell.verdict, cell.no_better_than) == ("not shown", ("placebo",))
