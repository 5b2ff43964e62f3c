"""Controls around beta rules: what reaches the policy, what the rule inside learns from, and what is kept."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from betahead.beta.control_levels import FlippedBeta, MatchedBeta, NoiseBeta
from betahead.beta.controls import ControlledBeta, PermutedBeta
from betahead.beta.files import load_rule, save_rule
from betahead.beta.fixed import FixedBeta
from betahead.beta.given import GivenBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.data.collate import PairCollator
from betahead.errors import ConfigError, DataError
from betahead.forward.model import PreferenceModel
from betahead.losses.objective import objective_of
from betahead.losses.preference import preference_loss
from betahead.train.trainer import DPOTrainer
from betahead.types import PromptFeatures, Shaping

CONTROLS: tuple[type[ControlledBeta], ...] = (PermutedBeta, NoiseBeta, FlippedBeta, MatchedBeta)
RULES: tuple[dict[str, Any], ...] = (
    {"learning": "joint", "prior_on": "each"},
    {"learning": "perspective", "regulariser": "quadratic"},
)
PAIRS = 6


def rule(settings: dict[str, Any] | None = None) -> LearnedBeta:
    return tiny.built(**(settings or RULES[1]), bounds=(1e-4, 1e4), scatter=0.4)


def margins(seed: int, pairs: int = PAIRS) -> Tensor:
    return torch.randn(pairs, generator=torch.Generator().manual_seed(seed))


def batches(number: int, pairs: int = PAIRS) -> list[tuple[PromptFeatures, Tensor]]:
    return [(tiny.features(pairs, seed=seed), margins(seed, pairs)) for seed in range(number)]


@pytest.mark.parametrize("settings", RULES, ids=lambda settings: settings["learning"])
@pytest.mark.parametrize("control", CONTROLS)
def test_the_rule_inside_learns_as_it_would_alone(control: type[ControlledBeta], settings: dict[str, Any]) -> None:
    alone, inside = rule(settings), rule(settings)
    features, margin = tiny.features(PAIRS), margins(0)
    preference_loss(margin, alone(features, margin)).sum().backward()
    preference_loss(margin, control(inside)(features, margin)).sum().backward()
    for one, other in zip(alone.parameters(), inside.parameters(), strict=True):
        assert one.grad is not None and one.grad.abs().max() > 0
        torch.testing.assert_close(other.grad, one.grad)


@pytest.mark.parametrize("control", CONTROLS)
def test_the_policy_feels_the_changed_beta_and_weight_alone(control: type[ControlledBeta]) -> None:
    wrapped = control(rule())
    features, margin = tiny.features(PAIRS), margins(0).requires_grad_()
    shaping = wrapped(features, margin)
    losses = preference_loss(margin, shaping)
    (gradient,) = torch.autograd.grad(losses.sum(), margin)
    beta, weight = shaping.beta.detach(), shaping.weight.detach()
    torch.testing.assert_close(gradient, -weight * beta * torch.sigmoid(-beta * margin.detach()))
    assert not shaping.beta.requires_grad and not shaping.weight.requires_grad
    # The weight of a perspective belongs to the β that the policy gets.
    torch.testing.assert_close(weight, wrapped.of.settings["initial_beta"] / beta)
    # The loss that is shown is the policy's, with the rule's penalty.
    own = wrapped.of(features, margin)
    policys = Shaping(beta=beta, target=own.target, weight=weight, penalty=own.penalty)
    torch.testing.assert_close(losses, preference_loss(margin, policys))


def shown(wrapped: BetaRule, own: BetaRule, number: int, pairs: int) -> tuple[Tensor, Tensor]:
    """log β over a training as the policy gets it, and as the rule has it."""
    seen = batches(number, pairs)
    given = torch.cat([wrapped(features, margin).beta for features, margin in seen])
    had = torch.cat([own(features, margin).beta for features, margin in seen])
    return given.detach().log(), had.detach().log()


@pytest.mark.parametrize("pairs", [1, 4])
def test_the_placebo_gives_every_beta_of_the_rule_to_the_next_pair(pairs: int) -> None:
    given, had = shown(PermutedBeta(rule()), rule(), 8, pairs)
    assert torch.equal(given[1:], had[:-1])
    assert given[0] == had[pairs - 1]


def test_noise_keeps_the_rules_mean_and_spread_and_nothing_else() -> None:
    given, had = shown(NoiseBeta(rule()), rule(), 300, 8)
    given, had = given[80:], had[80:]
    assert float(given.mean()) == pytest.approx(float(had.mean()), abs=0.05 * float(had.std()))
    assert float(given.std()) == pytest.approx(float(had.std()), rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([given, had]))[0, 1])) < 0.07


def test_flipping_mirrors_beta_at_its_level() -> None:
    given, had = shown(FlippedBeta(rule()), rule(), 300, 8)
    assert float(given.mean()) == pytest.approx(float(had.mean()), abs=0.05 * float(had.std()))
    assert float(torch.corrcoef(torch.stack([given, had]))[0, 1]) < -0.9


def test_matching_keeps_the_level_alone() -> None:
    given, had = shown(MatchedBeta(rule()), rule(), 300, 8)
    assert float(given.mean()) == pytest.approx(float(had.mean()), abs=0.05 * float(had.std()))
    within = given.view(-1, 8)
    assert torch.equal(within, within[:, :1].expand_as(within))


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_of_a_constant_is_that_constant(control: type[ControlledBeta]) -> None:
    wrapped = control(FixedBeta(0.25))
    for features, margin in batches(3):
        fixed, shaping = FixedBeta(0.25)(features, margin), wrapped(features, margin)
        torch.testing.assert_close(shaping.beta, fixed.beta, rtol=0, atol=0 if control is PermutedBeta else 1e-7)
        assert torch.equal(shaping.weight, fixed.weight) and torch.equal(shaping.penalty, fixed.penalty)


@pytest.mark.parametrize("control", CONTROLS)
def test_evaluation_leaves_no_trace_and_does_not_learn(control: type[ControlledBeta]) -> None:
    wrapped = control(rule())
    for features, margin in batches(2):
        wrapped(features, margin)
    state = {name: value.clone() for name, value in wrapped.state_dict().items()}
    wrapped.eval()
    first, second = (wrapped(tiny.features(PAIRS, seed=9), margins(9)).beta for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(value, state[name]) for name, value in wrapped.state_dict().items())


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_comes_back_from_its_files_and_goes_on_as_before(
    control: type[ControlledBeta], tmp_path: Path
) -> None:
    wrapped = control(rule())
    for features, margin in batches(3):
        wrapped(features, margin)
    save_rule(wrapped, tmp_path, hidden_size=tiny.HIDDEN)
    again = load_rule(tmp_path)
    assert type(again) is control and again.settings == wrapped.settings
    features, margin = tiny.features(PAIRS, seed=7), margins(7)
    assert torch.equal(again(features, margin).beta, wrapped(features, margin).beta)


def test_a_control_is_refused_with_another_loss_than_the_logistic_one() -> None:
    with pytest.raises(ConfigError, match=r"^`loss\.kind` must be sigmoid with this beta rule, but is ipo instead;"):
        PreferenceModel(tiny.qwen2(), PermutedBeta(FixedBeta()), objective=objective_of("ipo"))


@pytest.mark.parametrize("control", CONTROLS)
def test_the_trainer_trains_with_a_control(control: type[ControlledBeta], tmp_path: Path) -> None:
    made = control(LearnedBeta(learning="perspective", learning_rate=0.1))
    trainer = DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(tmp_path),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
        beta=made,
    )
    before = [p.detach().clone() for p in made.parameters()]
    trainer.train()
    assert any(not torch.equal(p, old) for p, old in zip(made.parameters(), before, strict=True))
    assert trainer.calibration is not None


# --- a β that comes with the data


def given(values: list[float]) -> PromptFeatures:
    return PromptFeatures(pairs=len(values), columns={"given_beta": torch.tensor(values)})


@pytest.mark.parametrize("push", ["beta", "even"])
def test_a_given_beta_is_the_column_times_its_level(push: Any) -> None:
    made = GivenBeta(0.2, push)
    shaping = made(given([0.5, 1.0, 4.0]), torch.zeros(3))
    torch.testing.assert_close(shaping.beta, torch.tensor([0.1, 0.2, 0.8]))
    wanted = [1.0, 1.0, 1.0] if push == "beta" else [2.0, 1.0, 0.25]
    torch.testing.assert_close(shaping.weight, torch.tensor(wanted))
    changed = made.reshaped(shaping, torch.full((3,), 0.4))
    torch.testing.assert_close(changed.weight, torch.full((3,), 1.0 if push == "beta" else 0.5))


def test_the_column_travels_from_the_records_to_the_rule() -> None:
    records = [row | {"given_beta": 0.5 * (number + 1)} for number, row in enumerate(tiny.records(3))]
    batch = PairCollator(pad_token_id=0)(records) | {
        "ref_chosen_logps": torch.zeros(3),
        "ref_rejected_logps": torch.zeros(3),
    }
    outputs = PreferenceModel(tiny.qwen2(), GivenBeta(0.1))(**batch)
    torch.testing.assert_close(outputs["beta"], torch.tensor([0.05, 0.1, 0.15]))


def test_pairs_without_the_column_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        GivenBeta()(PromptFeatures(pairs=2), torch.zeros(2))
    assert str(caught.value) == (
        "`given_beta` must be a column of the data with a number for each pair, but is missing; add it, or use another "
        "`beta.kind`."
    )


def test_a_given_beta_comes_back_from_its_files(tmp_path: Path) -> None:
    save_rule(GivenBeta(0.3, "even"), tmp_path, hidden_size=4)
    assert load_rule(tmp_path).settings == {"initial_beta": 0.3, "push": "even"}


@pytest.mark.usefixtures("unchecked")
def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^`beta\.initial_beta` must be a positive number, but is 0 instead"):
        GivenBeta(0)
    with pytest.raises(ConfigError, match=r"^`beta\.push` must be"):
        GivenBeta(0.1, "odd")  # pyright: ignore[reportArgumentType]
