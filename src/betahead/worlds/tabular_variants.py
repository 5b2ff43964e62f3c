"""Methods of tabular worlds made from others: their controls, and the same stopped early."""

from collections.abc import Mapping
from dataclasses import replace

from betahead.worlds.outcome import WorldMethod
from betahead.worlds.tabular_controls import ControlKind, ControlledBeta
from betahead.worlds.tabular_learning import BetaLearning
from betahead.worlds.tabular_method import Planted, TabularMethod, Values

_CONTROL_SUMMARIES: Mapping[ControlKind, str] = {
    "permuted": "placebo of {}: every prompt gets the β of another one",
    "noise": "control of {}: β of the same mean and spread, drawn anew for every prompt and step",
    "flipped": "control of {}: β lowered where the rule raises it",
    "matched": "control of {}: the rule's mean β for all prompts",
}


def controlled(kind: ControlKind, method: TabularMethod) -> TabularMethod:
    """A control of a method: its β reaches the policy changed."""

    def learning(values: Values, planted: Planted) -> BetaLearning:
        of = method.learning(values, planted)
        assert isinstance(of, BetaLearning), (
            f"{method.described.name} has its β from a rule, which has its own controls"
        )
        return ControlledBeta(of=of, kind=kind)

    return replace(method, described=method.described.control(kind, _CONTROL_SUMMARIES[kind]), learning=learning)


def stopped_early(method: TabularMethod) -> TabularMethod:
    """The same method, whose runs end at the checkpoint that is best on dev: the stop that `fixed_early` has."""
    inner = method.described
    described = replace(
        inner,
        name=f"early:{inner.name}",
        parent=None if inner.parent is None else f"early:{inner.parent}",
        placebo=None,
        summary=f"{inner.name}, stopped where dev is best",
    )
    return replace(method, described=described, stopped=True)


def planted_effect(size: float) -> TabularMethod:
    """Fixed β with a bonus on every prompt's reward and win rate: an effect of known size, to test comparisons with."""
    described = WorldMethod(
        name=f"planted:{size:g}",
        parent=None,
        placebo=None,
        axes=(),
        needs_truth=True,
        summary=f"fixed β, its reward and win rate raised by {size:g}",
    )
    return TabularMethod(described=described, bonus=size)
