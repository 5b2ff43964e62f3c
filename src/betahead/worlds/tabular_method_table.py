"""The methods that are compared in tabular worlds: a table of how each sets β and which pairs it reads."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.perspective import Regulariser
from betahead.worlds.outcome import Axis, WorldMethod
from betahead.worlds.tabular import TabularWorld
from betahead.worlds.tabular_batch import BatchBeta
from betahead.worlds.tabular_budget import BudgetBeta
from betahead.worlds.tabular_controls import ControlKind, ControlledBeta
from betahead.worlds.tabular_heldout import HeldoutBeta
from betahead.worlds.tabular_learning import BetaLearning, HeldBeta, JointBeta, LearnedPer, PerspectiveBeta
from betahead.worlds.tabular_oracles import Oracle
from betahead.worlds.tabular_pairs import TabularPairs, clean_labels, shuffled_labels
from betahead.worlds.tabular_runs import Runs

Values = Mapping[str, Float[Tensor, " configs"]]
"""A configuration's numbers by name: `learning_rate`, `beta` and the method's own axes."""

SHARED_AXES = (Axis(name="learning_rate", low=0.003, high=0.3), Axis(name="beta", low=0.01, high=1.0))
"""What every method is tuned over; `beta` is where β starts, on average over the prompts."""

_RATE = Axis(name="beta_learning_rate", low=0.003, high=0.1)
_RHO = Axis(name="rho", low=0.03, high=0.3)
_TARGET = Axis(name="target_kl", low=0.1, high=3.0)
_BATCH = (Axis(name="response", low=0.03, high=3.0), Axis(name="drop", low=0.0, high=0.4, log=False))

# β so small that the loss is a straight line and nothing but the stop holds the policy.
_NO_BETA = 0.01
_SMALLEST_NLL = 1e-2


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What a method may read beyond pairs: the world, and its oracle. Methods that do so say `needs_truth`."""

    world: TabularWorld
    oracle: Oracle


def _held(values: Values, planted: Planted) -> BetaLearning:
    return HeldBeta()


def _held_as_by_the_oracle(values: Values, planted: Planted) -> BetaLearning:
    return HeldBeta(push=planted.oracle.push)


def _batch(values: Values, planted: Planted) -> BetaLearning:
    return BatchBeta(response=values["response"], drop=values["drop"])


def _as_sampled(world: TabularWorld, pairs: TabularPairs) -> TabularPairs:
    return pairs


def _without_flips(world: TabularWorld, pairs: TabularPairs) -> TabularPairs:
    return clean_labels(pairs)


@dataclass(frozen=True, kw_only=True)
class TabularMethod:
    """A row of the table of methods.

    Args:
        described: what a plan may know of it.
        learning: how β is set, for the values of all configurations.
        lean: what is added to log β of each prompt of the world, or None.
        weight: how much each prompt's pairs count, or None.
        level: factor on the configuration's `beta`.
        pairs: the pairs that are read, made from those of the world.
        of_batch: whether β belongs to the batch, so that prompts have none of their own.
        stopped: whether a run ends at the checkpoint that is best on the prompts of selection.
        tempered: whether σ(β·h) is read with one temperature, fitted on the pairs of the prompts of selection.
        bonus: added to every prompt's reward and win rate; a device for testing comparisons.
    """

    described: WorldMethod
    learning: Callable[[Values, Planted], BetaLearning] = _held
    lean: Callable[[Planted], Float[Tensor, "seeds prompts"]] | None = None
    weight: Callable[[Planted], Float[Tensor, "seeds prompts"]] | None = None
    level: float = 1.0
    pairs: Callable[[TabularWorld, TabularPairs], TabularPairs] = _as_sampled
    of_batch: bool = False
    stopped: bool = False
    tempered: bool = False
    bonus: float = 0.0

    def runs(self, values: Values, planted: Planted) -> Runs:
        """The stack of runs of all configurations."""
        configs, train = values["beta"].shape[0], planted.world.splits["train"]
        lean, weight = (
            None if given is None else given(planted)[:, None, train].expand(-1, configs, -1)
            for given in (self.lean, self.weight)
        )
        log_beta = (self.level * values["beta"]).log()[None, :, None]
        return Runs(log_beta, values["learning_rate"], weight=weight, lean=lean)

    def to_dict(self) -> dict[str, Any]:
        """What the row declares, as plain values; the code behind it is named by the version of the package."""
        row = {name: getattr(self, name) for name in ("level", "of_batch", "stopped", "tempered", "bonus")}
        return {**asdict(self.described), **row}


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
    ),
)
_OTHERS = (
    TabularMethod(
        described=_fixed(
            "weight_oracle", "one β, pairs of noisy topics dropped where that helps", parent="fixed", needs_truth=True
        ),
        weight=_oracle_weight,
    ),
    TabularMethod(
        described=_fixed("clean_labels", "one β, on labels before noise turned them round", needs_truth=True),
        pairs=_without_flips,
    ),
    TabularMethod(
        described=_fixed("shuffled_labels", "one β, on labels drawn by a fair coin: they raise no gold"),
        pairs=shuffled_labels,
    ),
    TabularMethod(described=_fixed("renamed", "fixed under another name: a difference found here is false")),
)
_CONTROL_SUMMARIES: Mapping[ControlKind, str] = {
    "permuted": "placebo of {}: every prompt gets the β of another one",
    "noise": "control of {}: β of the same mean and spread, drawn anew for every prompt and step",
    "flipped": "control of {}: β lowered where the rule raises it",
    "matched": "control of {}: the rule's mean β for all prompts",
}


def _controlled(kind: ControlKind, method: TabularMethod) -> TabularMethod:
    inner = method.described

    def learning(values: Values, planted: Planted) -> BetaLearning:
        return ControlledBeta(of=method.learning(values, planted), kind=kind)

    return TabularMethod(
        described=WorldMethod(
            name=f"{kind}:{inner.name}",
            parent="fixed",
            placebo=None,
            axes=inner.axes,
            needs_truth=inner.needs_truth,
            summary=_CONTROL_SUMMARIES[kind].format(inner.name),
        ),
        learning=learning,
        lean=method.lean,
    )


def _table() -> dict[str, TabularMethod]:
    kinds: tuple[ControlKind, ...] = get_args(ControlKind)
    # A control of one β for all prompts, or for all of a batch, is that β.
    varied = [rule for rule in _RULES if rule.described.placebo is not None]
    controls = [_controlled(kind, rule) for rule in varied for kind in kinds]
    return {method.described.name: method for method in (*_RULES, *_OTHERS, *controls)}


TABULAR_METHODS: Mapping[str, TabularMethod] = MappingProxyType(_table())


def planted_effect(size: float) -> TabularMethod:
    """Fixed β with a bonus on every prompt's reward and win rate: an effect of known size, to test comparisons with."""
    described = _fixed(f"planted:{size:g}", f"fixed β, its reward and win rate raised by {size:g}", needs_truth=True)
    return TabularMethod(described=described, bonus=size)
