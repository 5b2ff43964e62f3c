"""A loss and a rule that train one policy: whether they go together, and what they read between them."""

from dataclasses import replace

from betahead.beta.rule import BetaRule, Need
from betahead.errors import ConfigError
from betahead.losses.objective import Objective
from betahead.losses.table import LOSSES, Reads


def agreed(objective: Objective, rule: BetaRule) -> Objective:
    """The objective with margins as the rule has them.

    Raises:
        ConfigError: for a loss that the rule is not made for, that has no place for the target which the rule moves, or
            that compares with a reference where the rule's margin does not.
    """
    for kind in objective.kinds:
        rule.check_link(kind)
    if rule.moves_target:
        _check_reads(objective, ("margin", "margins of both models"), f"`beta.kind: {rule.kind}`, which moves a target")
    if rule.margin_of == "reference":
        return objective
    why = f"`beta.kind: {rule.kind}`, whose margin is the policy's own"
    _check_reads(objective, ("margin",), why)
    divergence = objective.settings.f_divergence_type
    if divergence != "reverse_kl":
        raise ConfigError(f"`loss.f_divergence_type` must be left out with {why}, but is {divergence} instead.")
    return replace(objective, policy_means=True)


def reads_reference(objective: Objective, rule: BetaRule) -> bool:
    """Whether loss or rule reads a reference; without, none has to be scored."""
    of_rule = rule.ppl_from == "reference" or Need.PAIR in rule.needs or rule.kl_sampling is not None
    return agreed(objective, rule).needs_reference or of_rule


def _check_reads(objective: Objective, readings: tuple[Reads, ...], why: str) -> None:
    fitting = [kind for kind, row in LOSSES.items() if row.reads in (*readings, "chosen answer")]
    for kind in objective.kinds:
        if kind not in fitting:
            raise ConfigError(f"`loss.kind` must be one of {', '.join(fitting)} with {why}, but is {kind} instead.")
