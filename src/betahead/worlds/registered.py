"""What both kinds of worlds make of the package's own rules and losses: settings, and the controls that each can have.

`rule:KIND` is a rule, `loss:NAME` one β with another loss, `permuted:rule:KIND` a control of a rule.
"""

import inspect
from collections.abc import Collection, Mapping
from types import MappingProxyType

from betahead.beta.control_levels import FlippedBeta, MatchedBeta, NoiseBeta
from betahead.beta.controls import ControlledBeta, PermutedBeta
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.losses.table import LOSSES

CONTROL_RULES: Mapping[str, tuple[type[ControlledBeta], str]] = MappingProxyType(
    {
        "permuted": (PermutedBeta, "placebo of {}: every pair gets the β of the pair before it"),
        "noise": (NoiseBeta, "control of {}: β of the same mean and spread, drawn anew for every pair and step"),
        "flipped": (FlippedBeta, "control of {}: β lowered where the rule raises it"),
        "matched": (MatchedBeta, "control of {}: the rule's mean β for all pairs"),
    }
)
"""Controls around a rule, by what their names begin with, and a line for tables."""

SEQUENCE, TABULAR = "the sequence world", "the tabular world"
"""What sentences call the two kinds of worlds."""

SEQUENCE_COLUMNS = frozenset({"strength"})
"""Columns that pairs of the sequence world bring for rules; those of tabular worlds bring none."""

SMOOTHING: Mapping[str, float] = MappingProxyType({"exo_pair": 1e-3, "robust": 0.1})
"""Label smoothings of losses that are nothing of their own without: at 0 the one is infinite and the other `sigmoid`;
1e-3 is what the former's paper recommends."""

# One β for all pairs, whose level moves in time or not at all.
_ONE_BETA = frozenset({"fixed", "quantile_controller", "kl_controller"})
# One β as well, but a target or a weight for each pair.
_OWN_PLACE = frozenset({"odpo", "madpo", "wpo", "alpha_dpo", "amapo", "gamma_po"})


def level_of(kind: type[BetaRule]) -> str:
    """The argument of a rule that is its β, or where that begins."""
    return "beta" if "beta" in inspect.signature(kind).parameters else "initial_beta"


def controls_of(kind: str) -> tuple[str, ...]:
    """What a rule of that kind has as controls: those that leave it another rule.

    A placebo hands β, target and weight to another pair; the other three change β, and leave a rule with one β for all
    as it is.
    """
    if kind in _ONE_BETA:
        return ()
    return ("permuted",) if kind in _OWN_PLACE else tuple(CONTROL_RULES)


def why_not(name: str, known: Collection[str], world: str) -> str | None:
    """Why no method of a world has that name, and what to do instead; None where the name means nothing.

    Args:
        name: that is not among `known`.
        known: the names of the world's methods.
        world: what to call it.
    """
    head, _, inner = name.partition(":")
    if head in CONTROL_RULES and inner:
        return _why_no_control(head, inner) if inner in known else why_not(inner, known, world)
    if head == "rule":
        rules = [rule for rule in METHODS if rule.kind == inner]
        return _why_no_rule(rules[0], known, world) if rules else None
    if head == "loss" and inner in LOSSES:
        return _why_no_loss(inner, world)
    return None


def unknown_method(name: str, known: Collection[str], why: str | None) -> str:
    """The sentence that refuses a method."""
    return f"`method` must be one of {', '.join(known)}, but is {name!r} instead" + (f"; {why}" if why else ".")


def _why_no_rule(rule: type[BetaRule], known: Collection[str], world: str) -> str | None:
    if rule.kind == "fixed":
        return "that rule is called fixed."
    if rule.kind == "learned":
        ways = [name for name in known if name.startswith(("joint_", "perspective_")) or name in ("budget", "heldout")]
        return f"a learned β is called by the way that it is learned: {', '.join(ways)}."
    if rule.columns:
        elsewhere = rule.columns <= SEQUENCE_COLUMNS and world != SEQUENCE
        remedy = f"compare it in {SEQUENCE}" if elsewhere else "train it on data that have one"
        return f"that rule reads the column {', '.join(sorted(rule.columns))}, which {world} lacks; {remedy}."
    return f"that rule's margin is none to the reference, as what {world} measures is; compare it in a tabular world."


def _why_no_loss(name: str, world: str) -> str:
    if name == "sigmoid":
        return "that loss with one β is called fixed."
    return f"that loss compares with no reference, and {world} measures what does; compare it in a tabular world."


def _why_no_control(kind: str, inner: str) -> str:
    if inner.partition(":")[0] in CONTROL_RULES:
        return f"{inner} is a control already; name one of the two."
    return (
        f"{inner} has one β for all pairs of a step, so that {kind} would leave it as it is; compare with a control "
        "of a method that gives each prompt or pair its own."
    )
