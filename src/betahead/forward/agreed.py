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
            for its weights, that does not push in proportion to β where the rule divides by it, that compares with a
            reference where the rule's margin does not, or with none where the rule reads one; for losses of different
            margins where the rule reads the margin, or smoothed labels where it knows none; and for anchors alone, on
            which no rule acts.
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
    _check_push(objective, rule)
    _check_smoothing(objective, rule)
    if rule.margin_of == "reference":
        _check_one_margin(objective, rule)
        return objective
    if rule.margin_of == "reference_means":
        why = f"`beta.kind: {rule.kind}`, whose margin is one of means per token"
        _check_reads(objective, ("margin",), why, own_target=False)
        return replace(objective, margin="reference_means")
    why = f"`beta.kind: {rule.kind}`, whose margin is the policy's own"
    _check_reads(objective, ("margin",), why)
    divergence = objective.settings.f_divergence_type
    if divergence != "reverse_kl":
        raise ConfigError(f"`loss.f_divergence_type` must be left out with {why}, but is {divergence} instead.")
    return replace(objective, margin="policy_means")


def reads_reference(objective: Objective, rule: BetaRule) -> bool:
    """Whether loss or rule reads a reference; without, none has to be scored."""
    of_rule = rule.ppl_from == "reference" or Need.PAIR in rule.needs or rule.kl_sampling is not None
    return agreed(objective, rule).needs_reference or of_rule


def measures_from_reference(rule: BetaRule) -> bool:
    """Whether β follows the reference's own distribution, or how far the policy is from it."""
    # A rule that reads pairs without deciding by them takes its KL from their answers.
    from_answers = Need.PAIR in rule.needs and rule.reads in ("nothing", "prompt")
    return bool(rule.of_reference) or rule.kl_sampling is not None or from_answers


def _check_push(objective: Objective, rule: BetaRule) -> None:
    """A weight of β₀/β evens out a push that goes as β, and squares one that goes as 1/β."""
    uneven = [kind for kind in objective.compared if not LOSSES[kind].push_is_beta]
    if rule.evens_push and uneven:
        fitting = ", ".join(kind for kind, row in LOSSES.items() if row.push_is_beta and row.reads != "chosen answer")
        remedy = ", or use `beta.push: beta`" if "push" in rule.settings else ""
        raise ConfigError(
            f"`loss.kind` must be one of {fitting} with `beta.kind: {rule.kind}` that evens out how hard pairs push, "
            f"but is {uneven[0]} instead, which has 1/β in it; use another loss{remedy}."
        )


def _check_smoothing(objective: Objective, rule: BetaRule) -> None:
    smoothing = objective.settings.label_smoothing
    if smoothing > 0.0 and not rule.smooths:
        raise ConfigError(
            f"`loss.label_smoothing` must be 0 with `beta.kind: {rule.kind}`, whose weights are those of the labels "
            f"as they stand, but is {smoothing} instead; leave it out, or use another rule."
        )


def _check_one_margin(objective: Objective, rule: BetaRule) -> None:
    """A batch decides by its margins, in their unit: a β of means is none for sums, and one of sums none for means."""
    rows = [LOSSES[kind] for kind in objective.compared]
    if rule.reads == "batch" and len({(row.needs_reference, row.per_token) for row in rows}) > 1:
        raise ConfigError(
            f"`loss.kind` must be losses of one margin with `beta.kind: {rule.kind}`, which reads it, but is "
            f"{', '.join(objective.compared)} instead, whose margins differ in their reference or in what they are a "
            "mean of; use one of them, or `beta.kind: fixed`."
        )


def _check_reads(objective: Objective, readings: tuple[Reads, ...], why: str, *, own_target: bool = True) -> None:
    rows = {kind: row for kind, row in LOSSES.items() if own_target or not row.has_target}
    fitting = [kind for kind, row in rows.items() if row.reads in (*readings, "chosen answer")]
    for kind in objective.kinds:
        if kind not in fitting:
            raise ConfigError(f"`loss.kind` must be one of {', '.join(fitting)} with {why}, but is {kind} instead.")
