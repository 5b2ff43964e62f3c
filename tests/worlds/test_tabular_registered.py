"""The package's rules and losses in tabular worlds: what runs is what language models are trained with."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid

from betahead.beta.adaptive_scaling import AdaptiveScaling
from betahead.beta.beta_dpo import BatchAdaptiveBeta
from betahead.beta.control_levels import NoiseBeta
from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.kl_controller import KLController
from betahead.beta.mallows import DispersionBeta
from betahead.beta.wpo import OnPolicyWeight
from betahead.compare.cells import world_of
from betahead.compare.plan import load_plan
from betahead.compare.resolved import resolve
from betahead.errors import ConfigError
from betahead.losses.objective import Objective, objective_of
from betahead.types import PromptFeatures
from betahead.worlds.tabular import exact_kl, tabular_world
from betahead.worlds.tabular_method_table import TABULAR_METHODS
from betahead.worlds.tabular_methods import tabular_method_world
from betahead.worlds.tabular_pairs import sampled_pairs
from betahead.worlds.tabular_registered import RegisteredRule
from betahead.worlds.tabular_registered_table import REGISTERED_METHODS
from betahead.worlds.tabular_runs import Runs, Training
from betahead.worlds.tabular_settings import TabularSettings, TabularTopic
from betahead.worlds.tabular_training import policy_logps, train

SEEDS = (2000, 2001)
GIVEN = [{"learning_rate": 0.02, "beta": 0.1}, {"learning_rate": 0.05, "beta": 0.4}]
CONTROLS = ("permuted", "noise", "flipped", "matched")
SMALL = TabularSettings(
    topics=(TabularTopic(name="clean"), TabularTopic(name="noisy", label_noise=0.4)),
    train_prompts=20,
    eval_prompts=4,
    test_prompts=8,
    answers=4,
    features=3,
)
WORLD = tabular_world(SMALL, [5, 6])
PAIRS = sampled_pairs(WORLD)
BETAS, RATES = (0.2, 0.5), (0.3, 0.6)
RUNS = Runs.with_beta(BETAS, RATES)
STEPS = 3


def configurations(method):
    axes = REGISTERED_METHODS[method].described.axes
    own = {axis.name: math.sqrt(axis.low * axis.high) for axis in axes}
    return [{**given, **own} for given in GIVEN]


QUICK = {
    *("loss:simpo", "loss:bco", "loss:aot", "loss:sft", "rule:wpo", "rule:epsilon_dpo", "rule:kl_controller"),
    *("rule:gamma_po", "permuted:rule:beta_dpo", "noise:rule:mallows", "permuted:early:joint_plus"),
}


@pytest.mark.parametrize(
    "method", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in REGISTERED_METHODS]
)
def test_every_registered_method_scores_every_prompt_from_the_reference_on(method):
    out = tabular_method_world("half_noise").run(method, configurations(method)[:1], SEEDS, split="eval")
    assert out.reward.shape == out.kl.shape == out.win_rate.shape == (1, 2, 6, 200)
    assert out.finite.all() and np.abs(out.kl[:, :, 0]).max() < 1e-12
    assert (out.kl[:, :, -1].mean(-1) > 1e-3).all()
    assert (out.log_beta is None) == ("rule:" in method)
    assert (out.dev is not None) == ("early:" in method)


@pytest.mark.parametrize("method", ["loss:sigmoid", "loss:sigmoid_norm"])
def test_the_logistic_loss_gives_exactly_the_numbers_of_fixed(method):
    world = tabular_method_world("half_noise")
    fixed, same = (world.run(name, GIVEN, SEEDS, split="test") for name in ("fixed", method))
    for name in ("reward", "kl", "win_rate", "log_beta"):
        assert np.array_equal(getattr(fixed, name), getattr(same, name)), name
    for name, value in fixed.measures.items():
        assert np.array_equal(value, same.measures[name], equal_nan=True), name
    assert world.runs_of(method) == "fixed" and world.runs_of("loss:ipo") == "loss:ipo"


@pytest.mark.parametrize("method", ["loss:bco", "rule:beta_dpo", "rule:mallows", "noise:rule:adaptive_scaling"])
def test_a_run_is_the_same_whatever_runs_beside_it(method):
    world = tabular_method_world("few_pairs")
    together = world.run(method, GIVEN, SEEDS, split="test")
    alone = world.run(method, GIVEN[1:], SEEDS[1:], split="test")
    np.testing.assert_allclose(alone.reward[0, 0], together.reward[1, 1], rtol=0, atol=1e-9)


# --- against plain loops


def plain_loop(loss_of, betas=BETAS, steps=STEPS):
    """θ and the tables of every run by plain descent on a loss written out, one run after the other.

    `loss_of` makes what a run descends from its β and its world's number: a function of the policy's log-probabilities
    of the answers to the train prompts and of the pairs.
    """
    found = []
    for seed in range(len(WORLD.seeds)):
        for beta, rate in zip(betas, RATES, strict=True):
            loss = loss_of(beta, seed)
            shared = torch.zeros(WORLD.features.shape[-1], dtype=torch.float64, requires_grad=True)
            table = torch.zeros(20, 4, dtype=torch.float64, requires_grad=True)
            for _ in range(steps):
                logits = WORLD.features[seed, :20] @ shared + WORLD.private * table
                logps = torch.log_softmax(WORLD.ref_logps[seed, :20] + logits, -1)
                by = torch.autograd.grad(loss(logps), (shared, table))
                with torch.no_grad():
                    shared -= rate * by[0]
                    table -= rate * by[1]
            found.append((shared.detach(), table.detach()))
    return found


def assert_same(learning, loss_of, steps=STEPS):
    done = train(WORLD, PAIRS, RUNS, Training(steps=steps, optimizer="gd"), learning)
    found = plain_loop(loss_of, steps=steps)
    for number, (shared, table) in enumerate(found):
        torch.testing.assert_close(done.shared[number // 2, number % 2], shared, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(done.table[number // 2, number % 2], table, rtol=1e-9, atol=1e-12)
    return done


def of_pairs(table, seed):
    """A number of every chosen and every rejected answer."""
    prompt = PAIRS.prompt[seed]
    return table[prompt, PAIRS.chosen[seed]], table[prompt, PAIRS.rejected[seed]]


WRITTEN_OUT = {
    "ipo": lambda b, won, lost, _: (won - lost - 1 / (2 * b)).square().mean(),
    "hinge": lambda b, won, lost, _: (1 - b * (won - lost)).clamp(min=0).mean(),
    "nca_pair": lambda b, won, lost, _: (
        -(logsigmoid(b * won) + (logsigmoid(-b * won) + logsigmoid(-b * lost)) / 2).mean()
    ),
    "dr_dpo": lambda b, won, lost, _: -logsigmoid(b * (won - lost)).exp().mean().log(),
    "simpo": lambda b, won, lost, ref: -logsigmoid(b * (won + ref[0] - lost - ref[1]) - 0.5).mean(),
    "sft": lambda *of: -(of[1] + of[3][0]).mean(),
}
"""By the formulas of the papers: β, the log-ratios of both answers, and what the reference says of them."""


def written_out(name):
    """What a run descends."""

    def loss_of(beta, seed):
        first, second = of_pairs(WORLD.ref_logps[seed], seed)
        mean = seen = 0.0

        def loss(logps):
            nonlocal mean, seen
            chosen, rejected = of_pairs(logps, seed)
            won, lost = chosen - first, rejected - second
            if name != "bco":
                return WRITTEN_OUT[name](beta, won, lost, (first, second))
            threshold, rewards = mean, beta * (won + lost).detach() / 2
            seen += len(rewards)
            mean += float((rewards - mean).sum()) / seen
            return -(logsigmoid(beta * won - threshold) + logsigmoid(threshold - beta * lost)).mean()

        return loss

    return loss_of


@pytest.mark.parametrize("name", [*WRITTEN_OUT, "bco"])
def test_a_loss_trains_as_its_formula_does_in_a_plain_loop(name):
    learning = REGISTERED_METHODS[f"loss:{name}"].learning({}, None)
    done = assert_same(learning, written_out(name))
    for number, beta in enumerate(BETAS):
        torch.testing.assert_close(done.log_beta[:, number].exp(), torch.full((2, 20), beta, dtype=torch.float64))


def test_by_both_answers_the_logistic_loss_is_what_it_is_by_the_margin():
    by_answers = RegisteredRule(rule=lambda beta, _: FixedBeta(beta), objective=objective_of("sigmoid"))
    training = Training(batch_pairs=16, steps=40)
    one, other = (train(WORLD, PAIRS, RUNS, training, learning) for learning in (by_answers, None))
    torch.testing.assert_close(one.shared, other.shared, rtol=0, atol=1e-9)
    torch.testing.assert_close(one.table, other.table, rtol=0, atol=1e-9)


def dispersion(beta, seed):
    """MallowsPO: β · κ · (−log of the reference's entropy as a share of log 4)."""
    ref = WORLD.ref_logps[seed, :20]
    found = -(-(ref.exp() * ref).sum(-1) / math.log(4)).clamp(1e-4, 1 - 1e-4).log()
    own = (beta * found / found.mean())[PAIRS.prompt[seed]]
    return lambda logps: -logsigmoid(own * margins(logps, seed)).mean()


def on_policy(beta, seed):
    """WPO: the weight of both answers, over the chance that two draws from the policy are the same."""

    def loss(logps):
        chosen, rejected = of_pairs(logps.detach(), seed)
        same = (2 * logps.detach()).logsumexp(-1)[PAIRS.prompt[seed]]
        weight = (chosen + rejected - 2 * same).exp().clamp(max=1)
        return -(weight * logsigmoid(beta * margins(logps, seed))).mean()

    return loss


def perturbed(beta, seed):
    """ε-DPO: β̄/(1 + ε·k). With answers of one token a perturbed policy's margin is (1 ± ε)·h, so that k is h's sign."""
    base = float(torch.tensor(beta))  # the rule keeps β̄ in float32 when it is made

    def loss(logps):
        nonlocal base
        margin = margins(logps, seed)
        k = torch.where(margin.abs() < 1e-12, 0.0, margin.detach().sign())
        own, base = base / (1 + 0.01 * k), base / (1 + 0.01 * float(k.mean()))
        return -logsigmoid(own * margin).mean()

    return loss


def margins(logps, seed):
    chosen, rejected = of_pairs(logps, seed)
    first, second = of_pairs(WORLD.ref_logps[seed], seed)
    return chosen - first - (rejected - second)


@pytest.mark.parametrize(
    ("kind", "loss_of"), [(DispersionBeta, dispersion), (OnPolicyWeight, on_policy), (PerturbedBeta, perturbed)]
)
def test_a_rule_reads_of_a_bandit_what_its_paper_says(kind, loss_of):
    learning = REGISTERED_METHODS[f"rule:{kind.kind}"].learning({}, None)
    assert_same(learning, loss_of)


@pytest.mark.parametrize("kind", [BatchAdaptiveBeta, AdaptiveScaling])
def test_every_run_has_a_rule_of_its_own(kind):
    """A rule of the batch, whose statistics move, alone in a plain loop."""

    def loss_of(beta, seed):
        draws = {"seed": WORLD.seeds[seed]} if "seed" in kind().settings else {}
        rule = kind(initial_beta=beta, **draws).double()

        def loss(logps):
            margin = margins(logps, seed)
            shaping = rule(PromptFeatures(pairs=len(margin)), margin)
            return (shaping.weight * -logsigmoid(shaping.beta * (margin - shaping.target)) + shaping.penalty).mean()

        return loss

    assert_same(REGISTERED_METHODS[f"rule:{kind.kind}"].learning({}, None), loss_of, steps=6)


def test_a_controller_is_told_the_exact_kl_as_often_as_it_samples(monkeypatch):
    told = []
    monkeypatch.setattr(KLController, "kl_measured", lambda _, nats: told.append(nats))
    learning = RegisteredRule(rule=lambda beta, _: KLController(beta), objective=Objective())
    done = train(WORLD, PAIRS, RUNS, Training(steps=6, optimizer="gd"), learning)
    assert len(told) == 4
    after = train(WORLD, PAIRS, RUNS, Training(steps=5, optimizer="gd"), learning)
    exact = exact_kl(WORLD, policy_logps(WORLD, after.shared, after.table, "train"), "train").mean(-1)
    np.testing.assert_allclose(told, exact.flatten(), rtol=1e-9)
    assert torch.isfinite(done.shared).all()


# --- controls


@pytest.mark.parametrize("rule", ["adaptive_scaling", "mallows"])
def test_each_control_of_a_rule_is_another_rule_and_the_matched_one_has_its_level(rule):
    world = tabular_method_world("half_noise")
    names = [f"rule:{rule}", *(f"{kind}:rule:{rule}" for kind in CONTROLS), "fixed"]
    found = [world.run(name, GIVEN[1:], SEEDS[:1], split="eval").reward for name in names]
    for number, one in enumerate(found):
        for other in found[:number]:
            assert not np.allclose(one, other, atol=1e-6)


def test_the_noise_of_a_control_is_that_of_its_seed():
    made = REGISTERED_METHODS["noise:rule:beta_dpo"].learning({}, None).rule(0.2, 7)
    assert isinstance(made, NoiseBeta) and made.seed == made.of.seed == 7 and made.of.initial_beta == 0.2


def test_an_early_stop_has_the_controls_of_what_it_stops():
    early = {name for name in TABULAR_METHODS if name.startswith("early:") and name != "early:fixed"}
    for name in early:
        for kind in CONTROLS:
            control = REGISTERED_METHODS[f"{kind}:{name}"]
            assert control.stopped and control.described.axes == TABULAR_METHODS[name].described.axes


# --- plans

PLAN = """
name: registered
question: Is a rule of the package better than one β?
cells: [tabular/half_noise]
methods: {fixed: {}, "rule:mallows": {}, "permuted:rule:mallows": {}}
axes:
  learning_rate: {low: 0.01, high: 0.1}
  beta: {low: 0.03, high: 1.0}
pool: {configurations: 6, trials: 4, seeds: 1}
finals: {seeds: 9}
rope: 0.02
comparisons: [{a: "rule:mallows", b: fixed, claim: mechanism, placebo: "permuted:rule:mallows"}]
"""


def test_a_plan_asks_for_the_mechanism_of_a_rule_and_its_hash_covers_the_rule():
    resolved = resolve(load_plan(PLAN), world_of)
    assert list(resolved.spaces["rule:mallows"]) == ["learning_rate", "beta"]
    (world,) = resolved.worlds.values()
    declared = world.declared(resolved.plan.methods)
    assert set(declared) == {"rule:mallows", "permuted:rule:mallows"}
    assert declared["rule:mallows"]["settings"] == {"scale": None}
    assert world.declared(["fixed", "permuted:joint_plus", "renamed"]) == {}


def test_what_a_plan_does_not_name_is_no_part_of_its_hash(monkeypatch):
    text = PLAN.replace('"rule:mallows": {}, "permuted:rule:mallows": {}', "beta_dpo: {}")
    text = text[: text.index("comparisons")] + "comparisons: [{a: beta_dpo, b: fixed, claim: better}]\n"
    before = resolve(load_plan(text), world_of).hash
    assert [row["name"] for row in tabular_method_world("uniform").fingerprint()["methods"]] == list(TABULAR_METHODS)
    changed = replace(REGISTERED_METHODS["rule:mallows"], settings={"scale": 2.0})
    named = resolve(load_plan(PLAN), world_of).hash
    table = {**REGISTERED_METHODS, "rule:mallows": changed, "rule:new": changed}
    monkeypatch.setattr("betahead.worlds.tabular_methods.REGISTERED_METHODS", table)
    assert resolve(load_plan(text), world_of).hash == before
    assert resolve(load_plan(PLAN), world_of).hash != named


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "rule:odpo",
            "that rule reads the column strength, which the tabular world lacks; compare it in the sequence world.",
        ),
        (
            "permuted:rule:odpo",
            "that rule reads the column strength, which the tabular world lacks; compare it in the sequence world.",
        ),
        (
            "rule:madpo",
            "that rule reads the column reward_margin, which the tabular world lacks; train it on data that have one.",
        ),
        ("rule:fixed", "that rule is called fixed."),
        ("rule:learned", "a learned β is called by the way that it is learned: joint_plus, joint_minus, "),
        (
            "permuted:loss:ipo",
            "loss:ipo has one β for all pairs of a step, so that permuted would leave it as it is; compare with a "
            "control of a method that gives each prompt or pair its own.",
        ),
        ("flipped:rule:wpo", "rule:wpo has one β for all pairs of a step, so that flipped would leave it as it is; "),
        ("noise:rule:kl_controller", "rule:kl_controller has one β for all pairs of a step, so that noise "),
        ("matched:permuted:oracle", "permuted:oracle is a control already; name one of the two."),
    ],
)
def test_what_a_tabular_world_cannot_run_is_refused_with_the_reason(name, reason):
    world = tabular_method_world("uniform")
    with pytest.raises(ConfigError) as caught:
        world.run(name, [], [0], split="eval")
    assert str(caught.value).startswith("`method` must be one of fixed, ")
    assert f", but is {name!r} instead; {reason}" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        resolve(load_plan(PLAN.replace("fixed: {}", f'fixed: {{}}, "{name}": {{}}')), world_of)
    assert str(caught.value).startswith(f"`methods.{name}` is not a method of tabular/half_noise; {reason}")


def test_a_name_that_means_nothing_gets_the_nearest_one():
    with pytest.raises(ConfigError, match=r"^`methods\.rule:mallow` is not a method of tabular/half_noise; "):
        resolve(load_plan(PLAN.replace("fixed: {}", 'fixed: {}, "rule:mallow": {}')), world_of)
    assert tabular_method_world("uniform").why_not("rule:mallow") is None
