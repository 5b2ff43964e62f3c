"""What each watch says, when, and that it says it once."""

from dataclasses import asdict
from typing import Any

import pytest

from betahead.train.guard_watches import AtBound, Constant, Falling, FarAway, LevelDrift, PromptDrift, Watch


def told(watch: Watch, rows: list[dict[str, Any]]) -> dict[int, str]:
    """The sentences by the number of the line."""
    found = {step: watch.look(row, step) for step, row in enumerate(rows, start=1)}
    return {step: sentence for step, sentence in found.items() if sentence is not None}


def test_a_share_on_the_bounds_must_last() -> None:
    watch = AtBound(limit=0.5, patience=2, bounds=(0.01, 1.0))
    rows = [{"beta/at_bound": share} for share in (0.9, 0.1, 0.5, 0.93, 0.95, 1.0)]
    assert told(watch, [*rows[:2], {"eval_loss": 1.0}, *rows[2:]]) == {
        5: "β of 93% of the pairs has lain on a bound (0.01 or 1) for 2 log lines by step 5, and learns nothing there; "
        "widen `beta.bounds`, lower `beta.learning_rate`, or hold β back with a larger prior or rho."
    }


def test_a_constant_is_one_that_had_a_spread() -> None:
    def rows(*spreads: float) -> list[dict[str, Any]]:
        return [{"beta/mean": 0.2, "beta/std": 0.2 * spread} for spread in spreads]

    assert told(Constant(limit=1e-3, patience=2), rows(0.0, 0.0, 0.0)) == {}
    assert told(Constant(limit=1e-3, patience=2), rows(0.009, 0.0, 0.0)) == {}
    assert told(Constant(limit=1e-3, patience=2), rows(0.1, 0.002, 0.002)) == {}
    assert told(Constant(limit=1e-3, patience=2), rows(0.1, 0.0, 0.1, 0.0, 0.0)) == {
        5: "β has become a constant, 0.2 for every pair, for 2 log lines by step 5, after a spread of 10.0% of its "
        "mean; lower `beta.learning_rate`, check the bounds, or use `beta.kind: fixed`, which is cheaper."
    }


def test_only_both_answers_falling_are_falling() -> None:
    def row(chosen: float, rejected: float) -> dict[str, Any]:
        return {"logratios/chosen": chosen, "logratios/rejected": rejected}

    watch = Falling(limit=30.0)
    assert told(watch, [row(2, -90), row(-29, -90), row(-90, -29), row(-35, -60), row(-99, -99)]) == {
        4: "the log-probabilities of both answers have fallen against the reference, by 35 (chosen) and 60 nats "
        "(rejected), for 1 log lines by step 4: probability goes to answers that nobody compared; add an anchor "
        "(`loss.kind: [sigmoid, sft]`), raise β, or lower `learning_rate`."
    }


def test_the_distance_is_the_rules_estimate_or_that_of_the_answers() -> None:
    near, far = ({"logratios/chosen": -nats, "logratios/rejected": -2 * nats} for nats in (10, 80))
    assert told(FarAway(limit=100.0), [near, far]) == {
        2: "the policy is 120 nats per answer from the reference (the mean of −log π/π_ref over the answers of the "
        "pairs, limit 100) for 1 log lines by step 2; raise β, lower `learning_rate`, train shorter, or give "
        "`beta.learning` a budget."
    }
    assert told(FarAway(limit=100.0), [far | {"kl/estimate": 99.0}]) == {}
    (sentence,) = told(FarAway(limit=100.0), [near | {"kl/estimate": 101.0}]).values()
    assert sentence.startswith("the policy is 101 nats per answer from the reference (the rule's estimate, limit 100)")


@pytest.mark.parametrize("end", [2.9, 4.1])
def test_prompts_drift_from_the_mean_of_the_first_lines_in_either_direction(end: float) -> None:
    rows = [{"prompt/log_ppl": value} for value in (3.4, 3.6, 3.9, 3.5, end, end, end)]
    assert told(PromptDrift(limit=0.5, patience=2), rows) == {
        6: f"log PPL of the prompts has gone from 3.5 to {end:g} nats per token by step 6 while gradient flows from β "
        "into it: the policy lowers its loss by the prompts, not by the answers; set `beta.couple: false`, or "
        "`beta.ppl_from: reference`."
    }


def test_a_level_is_reported_when_it_has_left_another_factor_of_ten() -> None:
    def rows(*levels: float) -> list[dict[str, Any]]:
        return [{"beta/base": level} for level in levels]

    def watch() -> LevelDrift:
        return LevelDrift(limit=10.0, kind="epsilon_dpo", began=0.01)

    assert told(watch(), [*rows(0.01, 0.05, 0.0011, 0.099), {"loss": 1.0}]) == {}
    assert told(watch(), rows(0.1, 0.5, 0.2)) == {
        1: "the level of β of `beta.kind: epsilon_dpo` has gone from 0.01 to 0.1 by step 1, and nothing holds it; set "
        "`beta.bounds`, or a smaller perturbation."
    }
    assert len(told(watch(), rows(0.001, 0.0001, 0.00001))) == 3


def test_what_a_watch_has_seen_makes_the_same_watch() -> None:
    watch = PromptDrift(limit=0.5, patience=3)
    told(watch, [{"prompt/log_ppl": value} for value in (3.0, 3.0, 3.0, 9.0, 9.0)])
    again = PromptDrift(**asdict(watch))
    assert again == watch
    assert told(again, [{"prompt/log_ppl": 9.0}]).keys() == {1}
