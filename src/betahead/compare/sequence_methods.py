"""The methods that are compared in the readable world, and the rules that they are."""

from collections.abc import Mapping
from types import MappingProxyType

from betahead.beta.controls import PermutedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.worlds.outcome import Axis, WorldMethod

_RHO = Axis(name="rho", low=0.02, high=0.3)
_RATE = Axis(name="beta_learning_rate", low=1e-3, high=1e-2)


def _learned(one: Mapping[str, float]) -> BetaRule:
    return LearnedBeta(
        initial_beta=one["beta"],
        ppl_tokens="content",
        learning="perspective",
        rho=one["rho"],
        learning_rate=one["beta_learning_rate"],
    )


def rule_of(method: str, one: Mapping[str, float]) -> BetaRule:
    """The rule of a method with a configuration's numbers."""
    if method == "fixed":
        return FixedBeta(one["beta"])
    return PermutedBeta(_learned(one)) if method.startswith("permuted:") else _learned(one)


METHODS: Mapping[str, WorldMethod] = MappingProxyType(
    {
        one.name: one
        for one in (
            WorldMethod(name="fixed", parent=None, placebo=None, axes=(), summary="one β for all prompts"),
            WorldMethod(
                name="perspective_quadratic",
                parent="fixed",
                placebo="permuted:perspective_quadratic",
                axes=(_RHO, _RATE),
                summary="β(x) of a linear head by the quadratic perspective, from β₀",
            ),
            WorldMethod(
                name="permuted:perspective_quadratic",
                parent="fixed",
                placebo=None,
                axes=(_RHO, _RATE),
                summary="placebo: every pair gets the β of another prompt",
            ),
        )
    }
)
