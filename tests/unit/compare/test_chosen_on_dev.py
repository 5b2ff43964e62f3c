import numpy as np
from bandit import PLAN, bandit_of

from betahead.compare.choice import chosen_of, dev_values
from betahead.compare.items import pool_items, run_item
from betahead.compare.plan import load_plan
from betahead.compare.pool import searches_of
from betahead.compare.resolved import resolve

CELL = "bandit/one"


def resolved_of(text=PLAN):
    return resolve(load_plan(text), bandit_of)


def picks(resolved, values, component="gold_at_kl_0"):
    """Of every search, when the pool is worth these values (configurations, seeds)."""
    flat = np.zeros((8, 2))
    dev = {name: flat for metric in resolved.metrics for name in resolved.components(metric, CELL)}
    return chosen_of(resolved, CELL, {**dev, component: values})[component]


def test_a_search_takes_the_best_mean_over_tuning_seeds_of_what_it_saw():
    resolved = resolved_of()
    values = np.random.default_rng(3).normal(size=(8, 2))
    expected = [max(search, key=lambda number: values[number].mean()) for search in searches_of(resolved).tolist()]
    assert picks(resolved, values).tolist() == expected


def test_a_lucky_seed_and_a_lucky_worst_seed_win_no_search():
    resolved = resolved_of(PLAN.replace("trials: 4", "trials: 8"))
    values = np.full((8, 2), 0.5)
    values[5] = 0.6
    values[2] = [1.0, 0.1]
    assert picks(resolved, values).tolist() == [5] * 8
    values[2], values[5] = [0.55, 0.55], [0.3, 1.0]
    assert picks(resolved, values).tolist() == [5] * 8


def test_of_equals_the_first_is_taken():
    resolved = resolved_of()
    assert picks(resolved, np.zeros((8, 2))).tolist() == searches_of(resolved).min(axis=1).tolist()


def test_every_component_of_every_metric_is_selected_for_itself():
    resolved = resolved_of(
        PLAN.replace("trials: 4", "trials: 8")
        + "metric: {secondary: [win_rate, gold_minus_kappa_kl], kappas: [1, 2]}\n"
    )
    names = ["gold_at_kl_0", "gold_at_kl_1", "win_rate", "gold_minus_kl_0", "gold_minus_kl_1"]
    dev = {name: np.eye(8)[number][:, None].repeat(2, axis=1) for number, name in enumerate(names)}
    chosen = chosen_of(resolved, CELL, dev)
    assert {name: set(found.tolist()) for name, found in chosen.items()} == {
        name: {number} for number, name in enumerate(names)
    }


def test_dev_values_are_laid_out_by_configuration_and_tuning_seed():
    resolved = resolved_of()
    item = pool_items(resolved)[0]
    scores = run_item(resolved, item)
    dev = dev_values(resolved, scores)["gold_at_kl_0"]
    assert dev.shape == (8, 2)
    for row, (number, seed) in enumerate(item.runs):
        at = number, resolved.tuning_seeds.index(seed)
        assert dev[at] == scores.values["gold_at_kl_0"][row, 0]
