import re

import pytest
from bandit import PLAN

from betahead.compare.plan import load_plan, refuse_too_few_finals
from betahead.errors import ConfigError


def changed(old, new):
    assert old in PLAN
    return PLAN.replace(old, new)


def test_a_plan_is_read_with_its_defaults():
    plan = load_plan(PLAN)
    assert (plan.metric.primary, plan.alpha, plan.holm, plan.stop) == ("gold_at_matched_kl", 0.05, "all", "all_finals")
    assert plan.methods["shifted"].space["knob"].high == 2.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            changed("finals:", "finalz:"),
            "line 11: `finalz` is not a section of the configuration; did you mean `finals`?",
        ),
        (
            changed("trials: 4", "trails: 4"),
            "line 10: `pool.trails` is not a key of `pool`; did you mean `trials`?",
        ),
        (
            changed("{a: shifted, b: fixed}", "{a: shifted, c: fixed}"),
            "line 14: `comparisons.0.c` is not a key of `comparisons.0`; the keys there are a, b, claim, parent, "
            "placebo.",
        ),
        (
            changed("{a: shifted, b: fixed}", "{a: shifted, b: fixed, claim: best}"),
            "line 14: `comparisons.0.claim` must be one of better, mechanism, bound, but is 'best' instead.",
        ),
        (
            changed("shifted: {space", "shifted: {spaces"),
            "line 6: `methods.shifted.spaces` is not a key of `methods.shifted`; did you mean `space`?",
        ),
        (changed("rope: 0.01", "rope: 0"), "line 12: `rope` must be greater than 0, but is 0 instead."),
        (changed("rope: 0.01\n", ""), "`rope` is missing; add it."),
        (PLAN + "seed: 2000000\n", "line 15: `seed` must be less than 2000000, but is 2000000 instead."),
        (
            changed("low: 0.01, high: 0.3", "low: 0.5, high: 0.3"),
            "line 8: `axes.learning_rate.low` must be below `high` (0.3), but is 0.5 instead.",
        ),
        (
            changed("low: 0.1, high: 2.0", "low: 0, high: 2.0"),
            "line 9: `axes.beta.low` must be above 0 on a log scale, but is 0 instead; raise it or add `log: false`.",
        ),
        (
            changed("trials: 4", "trials: 9"),
            "line 10: `pool.trials` must be at most `configurations` (8), but is 9 instead.",
        ),
        (
            changed("b: fixed}", "b: shifted}"),
            "`comparisons.0.b` must be another method than `a`, but is 'shifted' too.",
        ),
        (
            changed("b: fixed}", "b: fixed, placebo: copy}"),
            "`comparisons.0.placebo` must be left out where the claim is not `mechanism`, but is 'copy' instead; "
            "remove it.",
        ),
        (changed("[bandit/one]", "[bandit/one, bandit/one]"), "`cells` must each be given once, but bandit/one stands"),
        (
            changed("finals:", "metric: {secondary: [reward, reward]}\nfinals:"),
            "`metric.secondary` must name other metrics than `primary`, each once, but is ['reward', 'reward'] "
            "instead.",
        ),
        (
            changed("fixed: {}", "fixed: {include: [" + "{beta: 1}, " * 9 + "]}"),
            "`methods.fixed.include` must hold at most `pool.configurations` (8), but holds 9.",
        ),
        (
            changed("configurations: 8", "configurations: 1000000000"),
            "line 10: `pool.configurations` must be at most 4096, but is 1000000000 instead.",
        ),
        (
            changed("trials: 4, seeds: 2", "trials: 4, seeds: 1001"),
            "line 10: `pool.seeds` must be at most 1000, but is 1001 instead.",
        ),
        (
            changed("finals: {seeds: 8}", "finals: {seeds: 100000}"),
            "line 11: `finals.seeds` must be at most 1000, but is 100000 instead.",
        ),
        (
            changed("finals:", "metric: {kappas: [0.1, 0.3, 0.1]}\nfinals:"),
            "`metric.kappas` must each be given once, but are [0.1, 0.3, 0.1] instead.",
        ),
        (
            PLAN + "headroom: {fixed: fixed, oracle: oracle, learned: [shifted, oracle]}\n",
            "`headroom.learned` must hold other methods than `fixed` and `oracle`, each once, but oracle plays two "
            "parts.",
        ),
        (
            PLAN + "sd_largest: 0.1\n",
            "`sd_largest` must be at least `sd`, but is 0.1 beside none; `sd` is the median.",
        ),
        (
            PLAN + "sd: 0.2\nsd_largest: 0.1\n",
            "`sd_largest` must be at least `sd`, but is 0.1 beside 0.2; `sd` is the median.",
        ),
        (
            changed("name: small", "name: a/b"),
            "line 1: `name` must be text of the form ^[A-Za-z0-9][A-Za-z0-9_.-]*$, but is 'a/b' instead.",
        ),
    ],
)
def test_a_mistake_in_a_plan_is_one_sentence(text, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load_plan(text)


def test_too_few_finals_for_the_tests_are_refused():
    refuse_too_few_finals(6, 1, 0.05)
    refuse_too_few_finals(8, 5, 0.05)
    with pytest.raises(ConfigError) as refused:
        refuse_too_few_finals(8, 80, 0.05)
    assert str(refused.value) == (
        "`finals.seeds` must be at least 12 for 80 tests at alpha 0.05, because the smallest p of n finals is 2^(1-n), "
        "but is 8 instead (smallest p 0.0078 against 0.00063); no comparison could be called better."
    )


def test_so_many_tests_that_random_flips_cannot_serve_them_are_refused():
    refuse_too_few_finals(40, 6000, 0.05)
    with pytest.raises(ConfigError) as refused:
        refuse_too_few_finals(60, 6000, 0.05)
    assert str(refused.value) == (
        "`finals.seeds` must be at most 40 for 6000 tests at alpha 0.05, because with more p is counted over 100,000 "
        "random flips, but is 60 instead (smallest p 1e-05 against 8.3e-06); no comparison could be called better."
    )
