"""A loss and a rule that train one policy: whether they go together, and what they read between them."""

from dataclasses import replace

from betahead.beta.rule import BetaRule, Need
from betahead.errors import ConfigError
from betahead.losses.objective import Objective
from betahead.losses.table import LOSSES, Reads


def agreed(objective: Objective, rule: BetaRule) -> Objective:
    """The objective with margins as the rule has them.

    Raises:
        ConfigError: for a loss that the rule is not made for, that has no place for the target which the rule moves or
            for its weights, that compares with a reference where the rule's margin does not, or with none where the
            rule reads one; and for anchors alone, on which no rule acts.
    """
    if not objective.compared and rule.kind != "fixed":
        raise ConfigError(
            f"`loss.kind` must be a loss that compares two answers with `beta.kind: {rule.kind}`, or a list with one, "
            f"but is {', '.join(objective.kinds)} instead, which knows no β; add one, or use `beta.kind: fixed`."
        )
    for kind in objective.compared:
        rule.check_link(kind)
    if rule.moves_target:
        why = f"`beta.kind: {rule.kind}`, which moves a target"
        _check_reads(objective, ("margin", "margins of both models"), why, own_target=False)
    without = [kind for kind in objective.compared if not LOSSES[kind].needs_reference]
    if without and measures_from_reference(rule):
        raise ConfigError(
            f"`loss.kind` must be a loss that compares with a reference with `beta.kind: {rule.kind}`, whose β "
            f"follows one, but is {without[0]} instead; use another of the two."
        )
    together = [kind for kind in objective.on_batch if kind in objective.compared]
    if rule.weighs and together:
        raise ConfigError(
            f"`loss.kind` must be a loss that keeps pairs apart with `beta.kind: {rule.kind}`, which weighs them, but "
            f"is {together[0]} instead, in which they act on one another; use another of the two."
        )
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


def measures_from_reference(rule: BetaRule) -> bool:
    """Whether β follows the reference's own distribution, or how far the policy is from it."""
    # A rule that reads pairs without deciding by them takes its KL from their answers.
    from_answers = Need.PAIR in rule.needs and rule.reads in ("nothing", "prompt")
    return bool(rule.of_reference) or rule.kl_sampling is not None or from_answers


def _check_reads(objective: Objective, readings: tuple[Reads, ...], why: str, *, own_target: bool = True) -> None:
    rows = {kind: row for kind, row in LOSSES.items() if own_target or not row.has_target}
    fitting = [kind for kind, row in rows.items() if row.reads in (*readings, "chosen answer")]
    for kind in objective.kinds:
        if kind not in fitting:
            raise ConfigError(f"`loss.kind` must be one of {', '.join(fitting)} with {why}, but is {kind} instead.")
