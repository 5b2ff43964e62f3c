import math
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError


@pytest.mark.parametrize("net", tiny.NETS)
def test_building_a_head_leaves_the_global_random_state_and_is_reproducible(net: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = tiny.built(net=net, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(17)
    again, other = tiny.built(net=net, seed=3), tiny.built(net=net, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    if net != "linear":
        assert any(not torch.equal(other.state_dict()[name], value) for name, value in first.state_dict().items())


def test_a_head_is_built_once() -> None:
    rule = tiny.built()
    with pytest.raises(
        ConfigError, match=r"^`beta` must be a new rule for every policy, but this one is in use already"
    ):
        rule.build(tiny.HIDDEN, seed=0)


def test_a_frozen_rule_learns_nothing() -> None:
    rule = tiny.built(learning="none")
    assert not any(p.requires_grad for p in rule.parameters())
    shaping = rule(tiny.features(3), torch.zeros(3))
    assert not shaping.beta.requires_grad
    assert torch.equal(shaping.weight, torch.ones(3))
    assert torch.equal(shaping.penalty, torch.zeros(3))


@given(st.integers(0, 50), st.floats(0, 5))
def test_the_prior_on_each_pair_is_the_squared_log_ratio_of_its_beta(seed: int, weight: float) -> None:
    rule = tiny.built(prior_on="each", prior_weight=weight, scatter=0.4, seed=seed)
    shaping = rule(tiny.features(5, seed), torch.zeros(5))
    wanted = [weight * math.log(beta / 0.1) ** 2 for beta in shaping.beta.tolist()]
    assert shaping.penalty.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def log_ratios(beta: torch.Tensor) -> torch.Tensor:
    return (beta.detach() / 0.1).log()


@given(st.integers(0, 50), st.floats(0.01, 5))
def test_the_prior_on_the_level_is_the_tangent_of_the_square_at_the_last_steps_mean(seed: int, weight: float) -> None:
    rule = tiny.built(prior_on="level", prior_weight=weight, scatter=0.4, seed=seed)
    first = rule(tiny.features(5, seed), torch.zeros(5))
    assert torch.equal(first.penalty, torch.zeros(5))  # no step has been taken
    rule.step_taken(lambda t: t)
    level = log_ratios(first.beta).mean()
    again = rule(tiny.features(5, seed), torch.zeros(5))
    torch.testing.assert_close(again.penalty, weight * (2 * level * log_ratios(again.beta) - level**2))
    # On the same pairs the mean is the square itself, and its slope is the square's.
    torch.testing.assert_close(again.penalty.mean(), weight * level**2)
    (slope,) = torch.autograd.grad(again.penalty.mean(), rule.head.log_level)
    torch.testing.assert_close(slope.squeeze(), 2 * weight * level)


def test_a_step_has_one_level_however_its_pairs_are_cut_and_wherever_they_are() -> None:
    whole, cut = (tiny.built(prior_on="level", scatter=0.4) for _ in range(2))
    features = [tiny.features(pairs, seed) for pairs, seed in ((1, 0), (5, 1), (2, 2))]
    betas = torch.cat([cut(f, torch.zeros(f.pairs)).beta for f in features])
    cut.step_taken(lambda t: t)
    torch.testing.assert_close(cut.mode.level, log_ratios(betas).mean())
    for f in features[:2]:
        whole(f, torch.zeros(f.pairs))
    elsewhere = torch.stack([log_ratios(betas[6:]).sum(), torch.tensor(2.0)])
    whole.step_taken(lambda t: t + elsewhere)
    torch.testing.assert_close(whole.mode.level, cut.mode.level)


def test_only_pairs_that_are_learned_from_count_for_the_level() -> None:
    rule = tiny.built(prior_on="level", scatter=0.4)
    with torch.no_grad():
        rule(tiny.features(3), torch.zeros(3))
    rule.eval()(tiny.features(3), torch.zeros(3))
    rule.step_taken(lambda t: t)
    assert rule.mode.level.item() == 0.0
    rule.train()(tiny.features(3), torch.zeros(3))
    rule.step_taken(lambda t: t)
    level = rule.mode.level.item()
    assert level != 0.0
    rule.step_taken(lambda t: t)  # no pairs, no news
    assert rule.mode.level.item() == level


@pytest.mark.parametrize(
    "settings",
    [{"prior_on": "each"}, {"prior_weight": 0.0}, {"learning": "perspective"}, {"learning": "none"}],
    ids=str,
)
def test_a_rule_without_a_prior_on_the_level_keeps_none(settings: dict[str, Any]) -> None:
    rule = tiny.built(**settings)
    rule(tiny.features(3), torch.zeros(3))
    rule.step_taken(lambda t: t)
    assert "mode.level" not in rule.state_dict()


@pytest.mark.parametrize(("regulariser", "rho"), [("quadratic", 0.1), ("quadratic", 2.0), ("linear", 0.3)])
def test_the_perspective_weighs_by_tau_and_penalises_it(regulariser: str, rho: float) -> None:
    rule = tiny.built(learning="perspective", regulariser=regulariser, rho=rho, scatter=0.4)
    shaping = rule(tiny.features(5), torch.zeros(5))
    for beta, weight, penalty in zip(
        shaping.beta.tolist(), shaping.weight.tolist(), shaping.penalty.tolist(), strict=True
    ):
        tau = 0.1 / beta
        r = rho * tau**2 - tau * math.log(2) if regulariser == "quadratic" else (rho - math.log(2)) * tau
        assert weight == pytest.approx(tau, rel=1e-5)
        assert penalty == pytest.approx(r, rel=1e-5, abs=1e-6)
    assert shaping.weight.requires_grad


def test_beta_does_not_read_the_margin() -> None:
    rule = tiny.built(scatter=0.4)
    features = tiny.features(4)
    assert torch.equal(rule(features, torch.zeros(4)).beta, rule(features, torch.randn(4)).beta)


@pytest.mark.parametrize("couple", [True, False])
def test_gradient_reaches_the_features_only_when_coupled(couple: bool) -> None:
    rule = tiny.built(net="transformer", couple=couple, scatter=0.3)
    features = tiny.features(3)
    assert features.log_ppl is not None and features.hidden is not None
    leaves = [features.log_ppl.requires_grad_(), features.hidden.requires_grad_()]
    rule(features, torch.zeros(3)).beta.sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == [couple, couple]


def test_the_log_shows_w_and_a_learned_p_and_nothing_for_the_direct_form() -> None:
    rule = tiny.built(ppl_exponent="learned", scatter=0.3)
    assert set(rule.log_metrics()) == {"beta/w", "beta/ppl_exponent"}
    assert rule.log_metrics()["beta/ppl_exponent"].item() == rule.head.exponent.item()
    assert set(tiny.built().log_metrics()) == {"beta/w"}
    assert tiny.built(form="direct").log_metrics() == {}


def test_a_memorised_prompt_at_the_floor_still_has_a_beta_in_the_bounds() -> None:
    features = replace(tiny.features(2), log_ppl=torch.tensor([1e-2, 1e-2]))
    for exponent in (1.0, -1.0, -8.0):
        rule = tiny.built(ppl_exponent=exponent)
        rule.calibrate(torch.tensor([3.0, 4.0]))
        assert rule.bounds is not None
        low, high = rule.bounds
        beta = rule(features, torch.zeros(2)).beta
        assert ((beta >= low * (1 - 1e-6)) & (beta <= high * (1 + 1e-6))).all()


def test_explaining_gives_the_beta_of_the_shaping() -> None:
    rule = tiny.built(scatter=0.4)
    features = tiny.features(4)
    assert torch.equal(rule.explain(features).beta, rule(features, torch.zeros(4)).beta)


def test_the_rule_reads_the_prompt_and_is_named_learned() -> None:
    assert (LearnedBeta.kind, LearnedBeta.reads) == ("learned", "prompt")
