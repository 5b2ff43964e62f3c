"""Controls in tabular worlds: the same β for other prompts, and a rule inside that learns as it would without them."""

from dataclasses import replace

import pytest
import torch

from betahead.worlds.tabular import tabular_world
from betahead.worlds.tabular_controls import ControlledBeta
from betahead.worlds.tabular_learning import HeldBeta, JointBeta, PerspectiveBeta
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_settings import TabularSettings, TabularTopic
from betahead.worlds.tabular_training import train

SETTINGS = TabularSettings(
    topics=(TabularTopic(name="clean"), TabularTopic(name="noisy", label_noise=0.45)),
    train_prompts=40,
    eval_prompts=4,
    test_prompts=20,
    answers=4,
    features=3,
)
WORLD = tabular_world(SETTINGS, [5, 6, 7])
GIVEN = torch.randn(3, 2, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def acting(kind, world=WORLD):
    return ControlledBeta(of=HeldBeta(), kind=kind).begin(world, 2).acting(GIVEN)


def test_a_permuted_beta_has_the_same_values_for_other_prompts():
    changed = acting("permuted")
    assert torch.equal(changed.sort(-1).values, GIVEN.sort(-1).values)
    assert (changed == GIVEN).double().mean() < 0.2
    # Every seed has its own order, which all configurations share.
    order = [[int((GIVEN[s, c] == value).nonzero()) for value in changed[s, c]] for s in range(3) for c in range(2)]
    assert order[0] == order[1] and order[0] != order[2]


def test_a_permuted_beta_keeps_its_order_throughout_training():
    course = ControlledBeta(of=HeldBeta(), kind="permuted").begin(WORLD, 2)
    assert torch.equal(course.acting(GIVEN), course.acting(GIVEN))


def test_a_permuted_beta_has_no_bearing_on_its_prompt():
    world = tabular_world(replace(SETTINGS, train_prompts=400), range(20))
    given = torch.linspace(-1, 1, 400, dtype=torch.float64).expand(20, 1, 400)
    changed = ControlledBeta(of=HeldBeta(), kind="permuted").begin(world, 1).acting(given)
    correlation = (given * changed).mean() / (given * given).mean()
    assert abs(float(correlation)) < 4 / (20 * 400) ** 0.5


def test_noise_has_the_rules_mean_and_spread_and_is_new_at_every_step():
    course = ControlledBeta(of=HeldBeta(), kind="noise").begin(WORLD, 2)
    draws = torch.stack([course.acting(GIVEN) for _ in range(2000)])
    torch.testing.assert_close(draws.mean((0, 3)), GIVEN.mean(-1), rtol=0, atol=0.02)
    torch.testing.assert_close(
        draws.transpose(0, 2).flatten(2).std(-1).T, GIVEN.std(-1, correction=0), rtol=0.02, atol=0
    )
    assert not torch.equal(draws[0], draws[1])


def test_a_flipped_beta_mirrors_each_prompt_at_the_mean():
    changed = acting("flipped")
    mean = GIVEN.mean(-1, keepdim=True)
    torch.testing.assert_close(changed - mean, mean - GIVEN)
    torch.testing.assert_close(changed.mean(-1), GIVEN.mean(-1))


def test_a_matched_beta_is_the_rules_mean():
    changed = acting("matched")
    torch.testing.assert_close(changed, GIVEN.mean(-1, keepdim=True).expand_as(GIVEN))


@pytest.mark.parametrize("kind", ["permuted", "flipped", "matched"])
@pytest.mark.parametrize(
    "rule", [JointBeta(learning_rate=0.2), PerspectiveBeta(learning_rate=0.2)], ids=["joint", "perspective"]
)
def test_policy_and_rule_descend_two_losses_that_do_not_feel_each_other(rule, kind):
    # Two steps of plain descent from a β that differs between prompts, against both losses written out.
    pairs = sampled_pairs(WORLD)
    lean = 0.5 * GIVEN[:, :1]
    start = torch.tensor([0.4], dtype=torch.float64).log()
    runs = Runs(start[None, :, None], torch.tensor([0.5], dtype=torch.float64), lean=lean)
    control = ControlledBeta(of=rule, kind=kind)
    found = train(WORLD, pairs, runs, Training(steps=2, optimizer="gd"), control)

    for seed in range(3):
        shared = torch.zeros(WORLD.features.shape[-1], dtype=torch.float64, requires_grad=True)
        table = torch.zeros(40, 4, dtype=torch.float64, requires_grad=True)
        offset = torch.zeros(40, dtype=torch.float64, requires_grad=True)
        prompt, chosen, rejected = pairs.prompt[seed], pairs.chosen[seed], pairs.rejected[seed]
        order = control.begin(WORLD, 1).order[seed]
        for _ in range(2):
            logits = WORLD.features[seed, :40] @ shared + WORLD.private * table
            margin = logits[prompt, chosen] - logits[prompt, rejected]
            own = start + lean[seed, 0] + offset
            mean = own.mean()
            given = {"permuted": own[order], "flipped": 2 * mean - own, "matched": mean.expand(40)}[kind].detach()
            of_policy = written_out(rule, given[prompt], start, margin).mean()
            of_rule = written_out(rule, own[prompt], start, margin.detach()).mean()
            by_policy = torch.autograd.grad(of_policy, (shared, table))
            (by_rule,) = torch.autograd.grad(of_rule, (offset,))
            with torch.no_grad():
                shared -= 0.5 * by_policy[0]
                table -= 0.5 * by_policy[1]
                offset -= 0.2 * by_rule
        torch.testing.assert_close(found.shared[seed, 0], shared.detach())
        torch.testing.assert_close(found.table[seed, 0], table.detach())
        last = start + lean[seed, 0] + offset.detach()
        wanted = {"permuted": last[order], "flipped": 2 * last.mean() - last, "matched": last.mean().expand(40)}[kind]
        torch.testing.assert_close(found.log_beta[seed, 0], wanted)


def written_out(rule, log_beta, start, margin):
    """The loss of every pair: joint with its prior on the level, perspective with τ and R(τ)."""
    plain = -torch.nn.functional.logsigmoid(log_beta.exp() * margin)
    if isinstance(rule, JointBeta):
        return plain + rule.prior_weight * (log_beta - start).mean() ** 2
    tau = (start - log_beta).exp()
    return tau * plain + rule.rho * tau**2 - torch.log(torch.tensor(2.0, dtype=torch.float64)) * tau


def test_a_control_of_a_controlled_beta_is_possible():
    twice = ControlledBeta(of=ControlledBeta(of=HeldBeta(), kind="flipped"), kind="flipped").begin(WORLD, 2)
    torch.testing.assert_close(twice.acting(GIVEN), GIVEN)
