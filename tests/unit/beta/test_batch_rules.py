"""What every rule of the batch or the pair promises: settings, files, a good first step, a still evaluation, errors."""

import math
from pathlib import Path
from typing import Any

import pytest
import readings
import tiny
import torch

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.batch_rule import BatchRule
from betahead.beta.dama import BoundedRatioBeta
from betahead.beta.files import load_rule, save_rule
from betahead.beta.gamma_po import AllocatedTarget
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.quantile_controller import QuantileController, quantile
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.errors import ConfigError, DataError
from betahead.losses.preference import preference_loss
from betahead.train.metrics import PairMetrics
from betahead.types import PromptFeatures


def taught(kind: str, steps: int = 3, **changes: Any) -> BetaRule:
    """The rule after some steps."""
    rule = readings.lively(kind, **changes)
    for step in range(steps):
        readings.shaped(rule, readings.reading(8, seed=step, dtype=torch.float32))
    return rule


@pytest.mark.parametrize("kind", readings.RULES)
def test_it_is_in_the_table_and_says_what_it_does(kind: str) -> None:
    (rule,) = [one for one in METHODS if one.kind == kind]
    assert rule is readings.RULES[kind]
    assert rule.card.title and rule.card.formula and rule.card.cost
    assert "https://" in rule.card.source and rule.__doc__ and "Source:" in rule.__doc__
    made = rule()
    assert type(made)(**made.settings).settings == made.settings
    assert list(made.parameters()) == []


@pytest.mark.parametrize("kind", readings.RULES)
def test_it_comes_back_from_its_files_and_goes_on_as_before(kind: str, tmp_path: Path) -> None:
    rule = taught(kind)
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    again = load_rule(tmp_path)
    assert type(again) is type(rule) and again.settings == rule.settings
    for step in range(3, 6):
        pair = readings.reading(8, seed=step, dtype=torch.float32)
        assert torch.equal(readings.slots(readings.shaped(again, pair)), readings.slots(readings.shaped(rule, pair)))
    if kind in readings.MOVING:
        assert any(
            not torch.equal(value, new) for value, new in zip(rule.buffers(), taught(kind, 3).buffers(), strict=True)
        )


@pytest.mark.parametrize("kind", readings.RULES)
def test_evaluation_leaves_no_trace_and_no_chance(kind: str) -> None:
    rule = taught(kind)
    state = {name: value.clone() for name, value in rule.state_dict().items()}
    rule.eval()
    pair = readings.reading(5, seed=9, dtype=torch.float32)
    first, second = (readings.slots(readings.shaped(rule, pair)) for _ in range(2))
    assert torch.equal(first, second)
    assert bool((first[2] > 0).all()), "evaluation drops no pair"
    assert all(torch.equal(value, state[name]) for name, value in rule.state_dict().items())


@pytest.mark.parametrize("kind", readings.RULES)
def test_evaluation_waits_for_no_other_rank(kind: str) -> None:
    rule = taught(kind)
    pair = readings.reading(5, seed=9, dtype=torch.float32)
    wanted = readings.slots(readings.shaped(rule.eval(), pair))

    def alone(of: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the other ranks are not there")

    rule.gathered = alone
    assert torch.equal(readings.slots(readings.shaped(rule, pair)), wanted)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pairs", [1, 2, 7])
@pytest.mark.parametrize("kind", readings.RULES)
def test_the_first_step_of_a_policy_that_is_its_reference_is_finite(kind: str, pairs: int, training: bool) -> None:
    for changes in ({}, readings.LIVELY.get(kind, {})):
        rule = readings.RULES[kind](**changes).train(training)
        features, margin = readings.given(readings.reading(pairs, moved=0.0, dtype=torch.float32), rule)
        margin.requires_grad_()
        made = rule(features, margin)
        assert readings.slots(made).isfinite().all()
        loss = preference_loss(margin, made).mean()
        (gradient,) = torch.autograd.grad(loss, margin)
        loss = loss.detach()
        assert loss.isfinite() and gradient.isfinite().all() and float(gradient.sum()) < 0
        if rule.margin_of == "reference" and kind not in ("adaptive_scaling", "gamma_po"):
            assert float(loss) == pytest.approx(math.log(2), rel=1e-5)


OF_BATCHES = sorted(kind for kind, rule in readings.RULES.items() if rule.reads == "batch")
WRITES = {"gamma_po": {"queue", "added"}}
"""What a pair alone is written to: a queue of pairs has a place for each."""


@pytest.mark.parametrize("kind", OF_BATCHES)
def test_a_last_batch_of_one_pair_is_measured_by_the_others_and_moves_no_statistic(kind: str) -> None:
    rule = taught(kind)
    before = {name: value.clone() for name, value in rule.state_dict().items()}
    made = [readings.shaped(rule, readings.reading(1, seed=seed)) for seed in (3, 4)]
    for shaping in made:
        assert readings.slots(shaping).isfinite().all() and float(shaping.weight) == 1.0
    moved = {name for name, value in rule.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == WRITES.get(kind, set())
    # What it is given follows from the pair and the batches before it, but for AMaPO, whose mean is the pair's own.
    assert torch.equal(made[0].beta, made[1].beta) == (kind not in ("beta_dpo", "dama"))
    assert torch.equal(made[0].target, made[1].target) == (kind not in ("alpha_dpo", "gamma_po"))
    assert kind != "amapo" or not any(shaping.target.any() for shaping in made)


@pytest.mark.parametrize("kind", sorted(readings.LIVELY.keys() | {"alpha_dpo"}))
def test_a_pair_alone_before_all_others_is_measured_by_itself(kind: str) -> None:
    rule = readings.lively(kind)
    made = readings.shaped(rule, readings.reading(1))
    lone = readings.slots(readings.shaped(readings.lively(kind).eval(), readings.reading(1)))
    assert torch.equal(readings.slots(made), lone)


@pytest.mark.parametrize("kind", readings.RULES)
def test_margins_of_any_size_give_numbers(kind: str) -> None:
    rule = readings.lively(kind)
    for scale in (1e-7, 1e3, -300.0, 30.0):
        pair = readings.reading(6, moved=scale, dtype=torch.float32)
        made = readings.shaped(rule, pair)
        assert readings.slots(made).isfinite().all(), scale
        assert bool((made.beta > 0).all())
    assert all(value.isfinite().all() for value in rule.buffers())


@pytest.mark.parametrize("kind", readings.RULES)
def test_nothing_flows_into_the_policy_but_through_the_margin(kind: str) -> None:
    rule = readings.lively(kind)
    features, margin = readings.given(readings.reading(6), rule)
    made = rule(features, margin.requires_grad_())
    assert not readings.slots(made).requires_grad


def test_log_metrics_are_scalars_of_the_state() -> None:
    for kind in readings.RULES:
        for name, value in taught(kind).log_metrics().items():
            assert value.shape == () and value.isfinite() and name.partition("/")[0] in ("beta", "target")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "beta_dpo-response": (
        {"response": -0.1},
        "`beta.response` must be a number that is at least 0, but is -0.1 instead.",
    ),
    "beta_dpo-gap_scale": ({"gap_scale": "nats"}, "`beta.gap_scale` must be one of raw, beta, but is 'nats' instead."),
    "beta_dpo-drop": ({"drop": 1.0}, "`beta.drop` must be in [0, 1), but is 1.0 instead."),
    "beta_dpo-momentum": ({"momentum": 1.0}, "`beta.momentum` must be in [0, 1), but is 1.0 instead."),
    "beta_dpo-floor": ({"floor": 0.0}, "`beta.floor` must be a positive number, but is 0.0 instead."),
    "beta_dpo-floor above": (
        {"initial_beta": 0.1, "floor": 0.2},
        "`beta.floor` must be at most `beta.initial_beta`, 0.1, but is 0.2 instead.",
    ),
    "dama-floor": ({"floor": 0.5}, "`beta.floor` must be at most `beta.initial_beta`, 0.1, but is 0.5 instead."),
    "beta_dpo-start": ({"start": "warm"}, "`beta.start` must be one of zero, corrected, but is 'warm' instead."),
    "beta_dpo-seed": ({"seed": 2**32}, "`beta.seed` must be a whole number in [0, 2³²), but is 4294967296 instead."),
    "alpha_dpo-beta": ({"beta": 0.0}, "`beta.beta` must be a positive number, but is 0.0 instead."),
    "alpha_dpo-gamma": ({"gamma": -1.0}, "`beta.gamma` must be a number that is at least 0, but is -1.0 instead."),
    "alpha_dpo-alpha": ({"alpha": math.nan}, "`beta.alpha` must be a number that is at least 0, but is nan instead."),
    "alpha_dpo-units": (
        {"units": "mine"},
        "`beta.units` must be one of code, paper, but is 'mine' instead.",
    ),
    "adaptive_scaling-rho": (
        {"rho": 0.7},
        "`beta.rho` must be in (0, log 2) with the linear regulariser, but is 0.7 instead.",
    ),
    "adaptive_scaling-rho, quadratic": (
        {"rho": 0.0, "regulariser": "quadratic"},
        "`beta.rho` must be a positive number, but is 0.0 instead.",
    ),
    "adaptive_scaling-tau_max": (
        {"tau_min": 2.0, "tau_max": 1.0},
        "`beta.tau_max` must be at least `beta.tau_min`, 2.0, but is 1.0 instead.",
    ),
    "adaptive_scaling-solver": (
        {"solver": "bfgs"},
        "`beta.solver` must be one of exact, newton, but is 'bfgs' instead.",
    ),
    "adaptive_scaling-regulariser": (
        {"regulariser": "cubic"},
        "`beta.regulariser` must be one of quadratic, linear, but is 'cubic' instead.",
    ),
    "gamma_po-gamma": ({"gamma": -0.4}, "`beta.gamma` must be a number that is at least 0, but is -0.4 instead."),
    "gamma_po-temperature": ({"temperature": 0.0}, "`beta.temperature` must be a positive number, but is 0.0 instead."),
    "gamma_po-margin": (
        {"margin": "sum"},
        "`beta.margin` must be one of policy, reference, reference_sums, but is 'sum' instead.",
    ),
    "gamma_po-seed": ({"seed": True}, "`beta.seed` must be a whole number in [0, 2³²), but is True instead."),
    "amapo-beta": ({"beta": -1.0}, "`beta.beta` must be a positive number, but is -1.0 instead."),
    "dama-data": ({"data": "strength"}, "`beta.data` must be one of none, reward_margin, but is 'strength' instead."),
    "dama-data_level": (
        {"data_level": 1.0},
        "`beta.data_level` applies only with data: reward_margin, but is 1.0 here; remove it.",
    ),
    "quantile_controller-share": ({"share": 0.0}, "`beta.share` must be in (0, 1), but is 0.0 instead."),
    "quantile_controller-momentum": ({"momentum": 1.5}, "`beta.momentum` must be in (0, 1], but is 1.5 instead."),
    "quantile_controller-warmup": (
        {"warmup": 0},
        "`beta.warmup` must be a whole number of at least 1, but is 0 instead.",
    ),
    "quantile_controller-initial_beta": (
        {"initial_beta": 3.0},
        "`beta.initial_beta` must be within `beta.min_beta` and `beta.max_beta`, 0.001 and 2.0, but is 3.0 instead.",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_out_of_range_is_refused_with_its_name(case: str) -> None:
    settings, message = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        readings.RULES[case.partition("-")[0]](**settings)
    assert str(caught.value) == message


def test_dama_asks_for_its_column_and_only_when_it_reads_it() -> None:
    assert BoundedRatioBeta().columns == frozenset()
    rule = BoundedRatioBeta(data="reward_margin")
    assert rule.columns == {"reward_margin"}
    with pytest.raises(DataError, match=r"^`reward_margin` must be a column of the data with a number for each pair"):
        rule(PromptFeatures(pairs=2), torch.zeros(2))


def test_the_ratio_of_dama_is_bounded_where_beta_dpo_drifts_below_zero() -> None:
    # Margins fall to nothing after they were large: the linear rule would be negative, and is held by its floor.
    linear, bounded = readings.RULES["beta_dpo"](drop=0.0), BoundedRatioBeta(drop=0.0)
    features = PromptFeatures(pairs=4)
    for height in (30.0, 30.0, 30.0, -5.0):
        margin = torch.full((4,), height)
        found = linear(features, margin).beta, bounded(features, margin).beta
    assert found[0].tolist() == pytest.approx([1e-3] * 4)
    assert float(linear.moments.mean) > 5
    for rule_margin in (torch.linspace(0, 200, 4), torch.linspace(0, 1, 4)):
        assert bool((bounded(features, rule_margin).beta < 0.2).all())


@pytest.mark.parametrize("kind", ["beta_dpo", "dama"])
def test_the_share_of_pairs_at_the_floor_is_reported(kind: str) -> None:
    rule = readings.RULES[kind](0.1, drop=0.0, floor=0.05)
    metrics = PairMetrics(rule.bounds)
    for height in (5.0, 5.0, -50.0, 5.0):
        margin = torch.full((4,), height)
        beta = rule(PromptFeatures(pairs=4), margin).beta
        rest = dict.fromkeys(
            ("chosen_logps", "rejected_logps", "chosen_rewards", "rejected_rewards", "penalty"), margin
        )
        metrics.add({"margin": margin, "beta": beta, **rest})
    assert metrics.reduce(lambda t: t)["beta/at_bound"] == 0.25


def test_the_controller_drifts_no_further_than_its_bounds_and_says_so() -> None:
    # Margins that always rise are always above a moving quantile: without bounds β would grow by a factor each step.
    rule = QuantileController(0.1, rate=0.5, warmup=1, min_beta=0.01, max_beta=1.0)
    features = PromptFeatures(pairs=8)
    betas = [float(rule(features, torch.linspace(0, 1, 8) + step).beta[0]) for step in range(12)]
    assert betas[0] == pytest.approx(0.1) and betas[-1] == pytest.approx(1.0, rel=1e-6) and max(betas) <= 1.0 + 1e-6
    assert rule.bounds == (0.01, 1.0)  # `beta/at_bound` of the log is the share of pairs there
    fallen = [float(rule(features, torch.linspace(0, 1, 8) - 9.0 * step).beta[0]) for step in range(30)]
    assert fallen[-1] == pytest.approx(0.01, rel=1e-5)


def test_the_quantile_is_that_of_torch() -> None:
    for count in (1, 2, 7, 32):
        values = torch.randn(count, dtype=torch.float64)
        for q in (0.0, 0.3, 0.9, 1.0):
            torch.testing.assert_close(quantile(values, q), torch.quantile(values, q))


def test_the_queue_of_gamma_po_keeps_the_latest_gaps_and_no_more() -> None:
    rule = AllocatedTarget(1.0, margin="reference_sums")
    features = PromptFeatures(pairs=1000)
    for step in range(3):
        rule(features, torch.arange(1000.0) + 1000 * step)
    assert int(rule.added) == 3008
    assert sorted(rule.queue.tolist()) == [float(value) for value in range(3000 - 2048, 3000)]


def test_a_batch_larger_than_the_queue_leaves_its_last_gaps_there() -> None:
    rule = AllocatedTarget(1.0, margin="reference_sums")
    rule(PromptFeatures(pairs=3000), torch.arange(3000.0))
    assert sorted(rule.queue.tolist()) == [float(value) for value in range(3000 - 2048, 3000)]


def test_the_pool_of_gamma_po_holds_256_pairs_once_there_are_as_many() -> None:
    rule = AllocatedTarget(1.0, margin="reference_sums")
    gaps = torch.zeros(6)
    assert [int(part.sum()) for part in (rule._pool(gaps)[1], rule._pool(torch.zeros(300))[1])] == [14, 300]
    rule(PromptFeatures(pairs=500), torch.arange(500.0))
    pool, counted = rule._pool(gaps)
    assert len(pool) == 256 and bool(counted.all())
    assert pool[6:].unique().numel() == 250, "without replacement"


def test_the_pool_of_gamma_po_is_another_sample_of_the_queue_at_every_step() -> None:
    rule = AllocatedTarget(1.0, margin="reference_sums")
    rule(PromptFeatures(pairs=2048), torch.arange(1.0, 2049.0))
    seen: set[float] = set()
    for _ in range(20):
        pool, _ = rule._pool(torch.zeros(6))
        seen |= set(pool[6:].tolist())
        rule(PromptFeatures(pairs=6), torch.zeros(6))
    # 250 of 2,048 each time: of independent samples one expects 1,897 between them, of the same slots 250.
    assert 1800 < len(seen - {0.0}) < 2000
    other = AllocatedTarget(1.0, margin="reference_sums", seed=1)
    other(PromptFeatures(pairs=2048), torch.arange(1.0, 2049.0))
    first = AllocatedTarget(1.0, margin="reference_sums")
    first(PromptFeatures(pairs=2048), torch.arange(1.0, 2049.0))
    assert not torch.equal(other._pool(torch.zeros(6))[0], first._pool(torch.zeros(6))[0]), "the seed chooses"


def test_a_share_at_a_bound_is_reported_for_adaptive_scaling() -> None:
    rule = AdaptiveScaling(0.1, tau_min=0.1, tau_max=5.0)
    assert rule.bounds == (pytest.approx(0.02), pytest.approx(1.0))
    made = rule(PromptFeatures(pairs=2), torch.tensor([0.0, 1e4]))
    assert made.beta.tolist() == pytest.approx([1.0, 0.02])


def test_adaptive_scaling_in_a_control_keeps_weight_and_penalty_of_the_new_beta() -> None:
    rule = AdaptiveScaling(0.1, 0.2)
    made = readings.shaped(rule, readings.reading(4))
    changed = rule.reshaped(made, torch.full_like(made.beta, 0.05))
    torch.testing.assert_close(changed.weight, torch.full_like(made.beta, 2.0))
    torch.testing.assert_close(changed.penalty, torch.full_like(made.beta, (0.2 - math.log(2)) * 2.0))


def test_a_shaping_without_penalty_has_a_number_for_every_pair_in_every_slot() -> None:
    made = plain_shaping(torch.zeros(3), beta=0.1, target=torch.arange(3.0))
    assert readings.slots(made).T.tolist() == [[pytest.approx(0.1), float(i), 1.0, 0.0] for i in range(3)]


def test_rules_of_the_batch_say_so() -> None:
    for kind, rule in readings.RULES.items():
        assert (rule().reads == "batch") == isinstance(rule(), BatchRule) == (kind != "adaptive_scaling")
