import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from betahead.beta.budget import BudgetLearning
from betahead.beta.files import load_rule, save_rule
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.types import PromptFeatures

ALLOCATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "joint": {"prior_weight": 0.3},
    "perspective": {"rho": 0.2},
    "linear": {"regulariser": "linear", "rho": 0.3},
}


def budget(allocation: str = "perspective", *, build: bool = True, **settings: Any) -> LearnedBeta:
    """A rule on a budget of 2 nats, its estimates from the answers unless the settings say otherwise."""
    learning = {"kind": "budget", "target_kl": 2.0, "kl_from": "answers"}
    learning["allocation"] = "perspective" if allocation == "linear" else allocation
    learning |= settings.pop("learning", {})
    settings = {**ALLOCATIONS[allocation], **settings}
    return tiny.built(learning=learning, **settings) if build else LearnedBeta(learning=learning, **settings)


def of(rule: LearnedBeta) -> BudgetLearning:
    assert isinstance(rule.mode, BudgetLearning)
    return rule.mode


def shown(chosen: torch.Tensor, rejected: torch.Tensor, seed: int = 0) -> PromptFeatures:
    """Random prompts with answers that have these log-ratios."""
    pairs = len(chosen)
    before = -20 * torch.rand(2, pairs, generator=torch.Generator().manual_seed(seed)).to(chosen)
    logps = torch.stack([before[0] + chosen, before[1] + rejected, before[0], before[1]])
    return replace(tiny.features(pairs, seed), pair=tiny.reading(logps))


def see(rule: LearnedBeta, chosen: torch.Tensor, rejected: torch.Tensor, seed: int = 0) -> None:
    rule(shown(chosen, rejected, seed), torch.zeros(len(chosen)))


def step(rule: LearnedBeta, kl: float, seed: int = 0, pairs: int = 5) -> None:
    """One step on random prompts whose answers lie `kl` nats below the reference."""
    see(rule, torch.full((pairs,), -kl), torch.full((pairs,), -kl), seed)
    rule.step_taken(lambda t: t)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_new_rule_on_a_budget_is_its_allocation(allocation: str) -> None:
    alone = {"none": "none", "joint": "joint"}.get(allocation, "perspective")
    settings = ALLOCATIONS[allocation] | ({"prior_on": "each"} if allocation == "joint" else {})
    rule = budget(allocation, scatter=0.2, bounds=(1e-3, 30.0))
    other = tiny.built(learning=alone, scatter=0.2, bounds=(1e-3, 30.0), **settings)
    mine, theirs = (each.eval()(tiny.features(5), torch.zeros(5)) for each in (rule, other))
    for name, value in vars(theirs).items():
        torch.testing.assert_close(vars(mine)[name], value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("allocation", ["none", "perspective"])
def test_the_level_takes_the_place_of_beta_0_where_the_allocation_has_a_level_of_its_own(allocation: str) -> None:
    rule = budget(allocation, scatter=0.2)
    level = math.log(3.0)
    of(rule).log_level.fill_(level)
    learning = "none" if allocation == "none" else "perspective"
    other = tiny.built(learning=learning, scatter=0.2, initial_beta=0.3, bounds=(1e-3, 30.0), **ALLOCATIONS[allocation])
    mine, theirs = (each.eval()(tiny.features(5), torch.zeros(5)) for each in (rule, other))
    for name, value in vars(theirs).items():
        torch.testing.assert_close(vars(mine)[name] * (3.0 if name in ("weight", "penalty") else 1.0), value)


@pytest.mark.parametrize("allocation", ["joint", "linear"])
def test_the_level_is_the_mean_log_beta_where_the_allocation_would_run_away(allocation: str) -> None:
    rule = budget(allocation, form="direct", scatter=0.2, bounds=(1e-3, 1e3))
    with torch.no_grad():
        rule.head.net.last.bias.add_(1.5)
    for _ in range(200):
        step(rule, kl=2.0)
    beta = rule.eval()(tiny.features(5), torch.zeros(5)).beta
    assert not rule.explain(tiny.features(5)).at_bound.any()
    assert of(rule).log_level.item() > 1.0
    assert beta.log().mean().item() == pytest.approx(math.log(0.1) + of(rule).log_level.item(), abs=1e-4)
    assert beta.std().item() > 0.001


def test_the_level_follows_the_answers_of_a_step_however_they_are_cut_and_wherever_they_are() -> None:
    chosen, rejected = -torch.rand(2, 8).double() * 9
    whole, cut = budget("none"), budget("none")
    see(whole, chosen[:6], rejected[:6])
    elsewhere = torch.stack([-(chosen[6:] + rejected[6:]).sum() / 2, torch.tensor(2.0).double()])
    whole.step_taken(lambda t: t + elsewhere)
    for part in (slice(0, 1), slice(1, 6), slice(6, 8)):
        see(cut, chosen[part], rejected[part])
    cut.step_taken(lambda t: t)
    wanted = -(chosen + rejected).mean() / 2
    for rule in (whole, cut):  # a moving average from 0 on
        torch.testing.assert_close(of(rule).kl.double(), 0.2 * wanted, rtol=1e-5, atol=0)
    excess = of(whole).ascent.excess(0.2 * wanted)
    torch.testing.assert_close(of(whole).log_level.double(), 0.15 * (excess + 40 * (excess + 1.0)), rtol=1e-4, atol=0)


def test_only_answers_that_are_learned_from_count() -> None:
    rule = budget("none")
    far = torch.full((3,), -9.0)
    with torch.no_grad():
        see(rule, far, far)
    see(rule.eval(), far, far)
    rule.step_taken(lambda t: t)
    assert (of(rule).kl.item(), of(rule).log_level.item()) == (0.0, 0.0)


ONE_BETA = {"ppl_exponent": 0.0, "max_correction": 0.0}
MANY = {"form": "direct", "scatter": 0.15}


@pytest.mark.parametrize(("allocation", "head"), [("none", ONE_BETA), ("joint", MANY), ("linear", MANY)])
def test_the_level_stays_in_the_bounds_and_comes_back_at_once(allocation: str, head: dict[str, Any]) -> None:
    rule = budget(allocation, bounds=(0.01, 10.0), **head)
    for _ in range(300):
        step(rule, kl=0.0)
    assert of(rule).log_level.item() == pytest.approx(math.log(0.1))
    held = rule.explain(tiny.features(5))
    assert held.beta.min().item() == pytest.approx(0.01)
    assert held.at_bound.all() == (allocation == "none"), "around a level on its bound half of the pairs are inside"
    step(rule, kl=3.0)
    back = rule.explain(tiny.features(5))
    assert not back.at_bound.any()
    assert back.beta.log().mean().item() == pytest.approx(math.log(0.1) + of(rule).log_level.item(), abs=1e-4)


def test_the_centre_goes_a_tenth_of_its_way_at_a_step() -> None:
    rule = budget("joint", form="direct")
    with torch.no_grad():
        rule.head.net.last.bias.add_(1.0)
    step(rule, kl=2.0)
    assert of(rule).centre.item() == pytest.approx(0.1)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_a_shaping_reshaped_to_its_own_beta_keeps_its_weight(allocation: str) -> None:
    rule = budget(allocation, scatter=0.2)
    of(rule).log_level.fill_(1.0)
    own = rule(shown(-torch.ones(5), -torch.ones(5)), torch.zeros(5))
    torch.testing.assert_close(rule.reshaped(own, own.beta).weight, own.weight)


def test_an_estimate_from_samples_moves_the_level_by_all_the_steps_since_the_last() -> None:
    rule = budget("none", learning={"kl_from": "samples", "kl_every": 7})
    assert rule.kl_sampling is not None
    assert (rule.kl_sampling.every, rule.kl_sampling.prompts, rule.kl_sampling.max_new_tokens) == (7, 16, 128)
    step(rule, kl=9.0)
    assert of(rule).log_level.item() == 0.0
    rule.kl_measured(2.0)  # a moving average of 1.5, from 0
    assert of(rule).log_level.item() == pytest.approx(0.15 * (7 * -0.25 + 40 * 0.75))
    assert budget("none").kl_sampling is None


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("form", [{"form": "banded"}, {"form": "direct"}], ids=str)
def test_its_state_comes_back_from_a_file(allocation: str, form: dict[str, Any], tmp_path: Path) -> None:
    rule = budget(allocation, scatter=0.2, **form)
    for number in range(3):
        step(rule, kl=0.7, seed=number)
    save_rule(rule, tmp_path, hidden_size=tiny.HIDDEN)
    again = load_rule(tmp_path)
    assert isinstance(again, LearnedBeta)
    assert again.settings == rule.settings
    for each in (rule, again):
        step(each, kl=2.5)
    assert torch.equal(of(again).log_level, of(rule).log_level)
    assert of(rule).log_level.item() != 0.0
    features = tiny.features(4)
    assert torch.equal(again.explain(features).beta, rule.explain(features).beta)


def test_the_log_shows_the_level_and_the_moving_average_of_the_estimates() -> None:
    rule = budget("none")
    step(rule, kl=2.0)
    line = rule.log_metrics()
    assert line["kl/estimate"].item() == pytest.approx(0.4)
    assert line["beta/base"].item() == pytest.approx(0.1 * math.exp(of(rule).log_level.item()))
    assert line["beta/w"].item() == pytest.approx(line["beta/base"].item())


def test_a_frozen_allocation_trains_no_head() -> None:
    assert not any(p.requires_grad for p in budget("none").parameters())
    assert all(p.requires_grad for p in budget("joint").parameters())


MESSAGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"target_kl": None},
        {},
        "`beta.learning.target_kl` must be given with learning.kind: budget; say how many nats per answer the policy "
        "may move.",
    ),
    ({"target_kl": -1.0}, {}, "`beta.learning.target_kl` must be a positive number, but is -1.0 instead."),
    (
        {"allocation": "budget"},
        {},
        "`beta.learning.allocation` must be one of joint, perspective, heldout, none, but is 'budget' instead.",
    ),
    (
        {"kl_from": "thin air"},
        {},
        "`beta.learning.kl_from` must be one of samples, answers, but is 'thin air' instead.",
    ),
    (
        {"kl_every": 5},
        {},
        "`beta.learning.kl_every` applies only with learning.kl_from: samples, but is 5 here; remove it.",
    ),
    (
        {"kl_from": "samples", "kl_prompts": 0},
        {},
        "`beta.learning.kl_prompts` must be a whole number of at least 1, but is 0 instead.",
    ),
    ({"level_rate": 0}, {}, "`beta.learning.level_rate` must be a positive number, but is 0 instead."),
    (
        {"allocation": "joint"},
        {"prior_on": "level"},
        "`beta.prior_on` must be each with learning.kind: budget, because the budget sets the level, but is 'level' "
        "instead.",
    ),
    (
        {"allocation": "joint"},
        {"rho": 0.1},
        "`beta.learning.rho` applies only with learning.allocation: perspective, but is 0.1 here; remove it.",
    ),
    (
        {"allocation": "none"},
        {"learning_rate": 0.1},
        "`beta.learning_rate` applies only with a learning.kind that learns, but is 0.1 here; remove it.",
    ),
    (
        {"pace": 3},
        {},
        "`beta.learning.pace` must be left out, because no learning.kind has it, but is 3 here.",
    ),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("learning", "settings", "message"), MESSAGES, ids=[str(case[:2]) for case in MESSAGES])
def test_a_budget_that_cannot_be_kept_is_refused(
    learning: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    said = {"kind": "budget", "target_kl": 2.0, "kl_from": "answers"} | learning
    with pytest.raises(ConfigError) as error:
        LearnedBeta(learning=said, **settings)
    assert str(error.value) == message


def test_a_setting_of_the_budget_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError) as error:
        LearnedBeta(learning={"kind": "joint", "target_kl": 2.0})
    assert str(error.value) == (
        "`beta.learning.target_kl` applies only with learning.kind: budget, but is 2.0 here; remove it."
    )
