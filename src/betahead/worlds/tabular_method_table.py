"""The methods that are compared in tabular worlds: a table of how each sets β and which pairs it reads."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.perspective import Regulariser
from betahead.worlds.outcome import Axis, WorldMethod
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_batch import BatchBeta
from betahead.worlds.tabular_budget import BudgetBeta
from betahead.worlds.tabular_controls import ControlKind
from betahead.worlds.tabular_heldout import HeldoutBeta
from betahead.worlds.tabular_learning import BetaLearning, HeldBeta, JointBeta, LearnedPer, PerspectiveBeta
from betahead.worlds.tabular_method import Planted, TabularMethod, Values
from betahead.worlds.tabular_oracles import Oracle
from betahead.worlds.tabular_pairs import TabularPairs, clean_labels, shuffled_labels
from betahead.worlds.tabular_settings import TabularSettings
from betahead.worlds.tabular_variants import controlled, stopped_early

_RATE = Axis(name="beta_learning_rate", low=0.003, high=0.1)
_RHO = Axis(name="rho", low=0.03, high=0.3)
_TARGET = Axis(name="target_kl", low=0.1, high=3.0)
_BATCH = (Axis(name="response", low=0.03, high=3.0), Axis(name="drop", low=0.0, high=0.4, log=False))

# β so small that the loss is a straight line and nothing but the stop holds the policy.
_NO_BETA = 0.01
_SMALLEST_NLL = 1e-2


def _held_as_by_the_oracle(values: Values, planted: Planted) -> BetaLearning:
    return HeldBeta(push=planted.oracle.push)


def _batch(values: Values, planted: Planted) -> BetaLearning:
    return BatchBeta(response=values["response"], drop=values["drop"])


def _without_flips(world: TabularWorld, pairs: TabularPairs) -> TabularPairs:
    return clean_labels(pairs)


def log_ppl_lean(power: float) -> Callable[[Planted], Float[Tensor, "seeds prompts"]]:
    """p·(log of log PPL − its mean over train prompts): the published formula's factor (log PPL/g)^p.

    A tabular prompt has no tokens of its own. Its log PPL is the reference's mean negative log-probability of the
    answers that it gives itself (nats), the entropy of π_ref(·|x): low where the planted familiarity is high.
    """

    def lean(planted: Planted) -> Float[Tensor, "seeds prompts"]:
        logs = answer_nll(planted.world).log()
        train = logs[:, planted.world.splits["train"]]
        return power * (logs - train.mean(-1, keepdim=True))

    return lean


def answer_nll(world: TabularWorld) -> Float[Tensor, "seeds prompts"]:
    """Mean negative log-probability that the reference gives its own answers to each prompt, nats, ≥ 1e-2."""
    return -(world.ref_logps.exp() * world.ref_logps).sum(-1).clamp(max=-_SMALLEST_NLL)


def _fixed(name: str, summary: str, *, parent: str | None = None, needs_truth: bool = False) -> WorldMethod:
    return WorldMethod(name=name, parent=parent, placebo=None, axes=(), needs_truth=needs_truth, summary=summary)


def _learned(
    name: str,
    learning: Callable[[Values, Planted], BetaLearning],
    axes: tuple[Axis, ...],
    summary: str,
    lean: Callable[[Planted], Float[Tensor, "seeds prompts"]] | None = None,
) -> TabularMethod:
    described = WorldMethod(name=name, parent="fixed", placebo=f"permuted:{name}", axes=axes, summary=summary)
    return TabularMethod(described=described, learning=learning, lean=lean)


def _joint(name: str, power: float, summary: str) -> TabularMethod:
    def learning(values: Values, planted: Planted) -> BetaLearning:
        return JointBeta(learning_rate=values["beta_learning_rate"], per="topic")

    return _learned(name, learning, (_RATE,), summary, log_ppl_lean(power))


def _perspective(name: str, regulariser: Regulariser, per: LearnedPer, summary: str) -> TabularMethod:
    def learning(values: Values, planted: Planted) -> BetaLearning:
        rate, rho = values["beta_learning_rate"], values["rho"]
        return PerspectiveBeta(learning_rate=rate, regulariser=regulariser, rho=rho, per=per)

    return _learned(name, learning, (_RATE, _RHO), summary)


def _budget(values: Values, planted: Planted) -> BetaLearning:
    allocation = PerspectiveBeta(learning_rate=values["beta_learning_rate"], per="topic")
    return BudgetBeta(target_kl=values["target_kl"], allocation=allocation)


def _heldout(values: Values, planted: Planted) -> BetaLearning:
    return HeldoutBeta(learning_rate=values["beta_learning_rate"], per="topic")


def _oracle_lean(planted: Planted) -> Float[Tensor, "seeds prompts"]:
    world = planted.world
    multiplier = torch.tensor(planted.oracle.multiplier, dtype=torch.float64)
    return multiplier.log()[world.topic].expand(len(world.seeds), -1)


def _oracle_weight(planted: Planted) -> Float[Tensor, "seeds prompts"]:
    world = planted.world
    kept = (~torch.tensor(planted.oracle.dropped)).double()
    return kept[world.topic].expand(len(world.seeds), -1)


def _always_fixed(settings: TabularSettings, oracle: Oracle) -> str | None:
    return "fixed"


def _fixed_where_level(settings: TabularSettings, oracle: Oracle) -> str | None:
    """A search that found the same β for all topics found fixed β."""
    return "fixed" if set(oracle.multiplier) == {1.0} else None


def _fixed_where_all_kept(settings: TabularSettings, oracle: Oracle) -> str | None:
    return None if any(oracle.dropped) else "fixed"


def _fixed_where_clean(settings: TabularSettings, oracle: Oracle) -> str | None:
    return None if any(topic.label_noise > 0 for topic in settings.topics) else "fixed"


_RULES = (
    TabularMethod(described=_fixed("fixed", "one β for all prompts")),
    TabularMethod(
        described=_fixed(
            "fixed_early", "one β, a hundredth of the plan's, stopped where dev is best: nothing else holds the policy"
        ),
        level=_NO_BETA,
        stopped=True,
    ),
    TabularMethod(
        described=_fixed(
            "fixed_tempered", "one β, and one temperature for σ(β·h), fitted on the pairs of dev", parent="fixed"
        ),
        tempered=True,
    ),
    TabularMethod(
        described=WorldMethod(
            name="beta_dpo",
            parent="fixed",
            placebo=None,
            axes=_BATCH,
            summary="β-DPO: β of the batch rises with its mean margin; a share of the pairs is dropped",
        ),
        learning=_batch,
        of_batch=True,
    ),
    _joint("joint_plus", 1.0, "β ∝ log PPL, corrected per topic by joint descent (the formula as written)"),
    _joint("joint_minus", -1.0, "β ∝ 1/log PPL, corrected per topic by joint descent (its stated intent)"),
    _perspective("perspective_quadratic", "quadratic", "topic", "β per topic by perspective, R = ρτ² − τ log 2"),
    _perspective("perspective_linear", "linear", "topic", "β per topic by perspective, R = (ρ − log 2)τ"),
    _perspective("perspective_prompt", "quadratic", "prompt", "quadratic perspective with a β for each train prompt"),
    _learned(
        "budget",
        _budget,
        (_RATE, _TARGET),
        "level of β by dual ascent on a KL of one's own, quadratic perspective per topic",
    ),
    _learned("heldout", _heldout, (_RATE,), "β per topic down the loss of held-out prompts, a fifth, one step ahead"),
    TabularMethod(
        described=WorldMethod(
            name="oracle",
            parent="fixed",
            placebo="permuted:oracle",
            axes=(),
            needs_truth=True,
            summary="β per topic as a search with the truth in hand found it",
        ),
        learning=_held_as_by_the_oracle,
        lean=_oracle_lean,
        same_as=_fixed_where_level,
    ),
)
_OTHERS = (
    TabularMethod(
        described=_fixed(
            "weight_oracle", "one β, pairs of noisy topics dropped where that helps", parent="fixed", needs_truth=True
        ),
        weight=_oracle_weight,
        same_as=_fixed_where_all_kept,
    ),
    TabularMethod(
        described=_fixed("clean_labels", "one β, on labels before noise turned them round", needs_truth=True),
        pairs=_without_flips,
        same_as=_fixed_where_clean,
    ),
    TabularMethod(
        described=_fixed("shuffled_labels", "one β, on labels drawn by a fair coin: they raise no gold"),
        pairs=shuffled_labels,
    ),
    TabularMethod(
        described=_fixed("renamed", "fixed under another name: a difference found here is false"), same_as=_always_fixed
    ),
)
# Those that are also offered with the early stop of `fixed_early`: one β, and whatever learns one.
_STOPPABLE = {
    *("fixed", "joint_plus", "joint_minus", "perspective_quadratic", "perspective_linear", "perspective_prompt"),
    *("budget", "heldout"),
}


def _table() -> dict[str, TabularMethod]:
    kinds: tuple[ControlKind, ...] = get_args(ControlKind)
    # A control of one β for all prompts, or for all of a batch, is that β.
    varied = [rule for rule in _RULES if rule.described.placebo is not None]
    controls = [controlled(kind, rule) for rule in varied for kind in kinds]
    early = [stopped_early(rule) for rule in _RULES if rule.described.name in _STOPPABLE]
    return {method.described.name: method for method in (*_RULES, *_OTHERS, *controls, *early)}


TABULAR_METHODS: Mapping[str, TabularMethod] = MappingProxyType(_table())
