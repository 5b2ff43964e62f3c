"""Who may play which part in a plan: a claim needs its controls, and what reads the truth is no contender."""

from collections.abc import Mapping

from betahead.compare.cells import did_you_mean
from betahead.compare.plan import ComparisonSection, Plan
from betahead.errors import ConfigError
from betahead.worlds.outcome import WorldMethod

CONTROLS = ("permuted", "noise", "flipped", "matched")
"""What a name begins with whose method is another one, its β changed so that it tells no prompts apart as before."""


def refuse_parts(plan: Plan, declared: Mapping[str, WorldMethod]) -> None:
    """Every claim and the headroom must name methods of the plan that may play their parts.

    Args:
        plan: whose `comparisons` and `headroom` are looked at.
        declared: what the worlds say of each method.

    Raises:
        ConfigError: a name that is not among the plan's methods, a claim without its controls, a placebo
            that is no control of A, or a method that reads the truth of its world where a contender is asked for.
    """
    for one in plan.comparisons:
        _refuse_claim(plan, one, declared)
    if plan.headroom is None:
        return
    for name in (plan.headroom.fixed, plan.headroom.oracle, *plan.headroom.learned):
        _refuse_absent(plan, name, "headroom")
    for name in plan.headroom.learned:
        if declared[name].needs_truth:
            raise ConfigError(
                f"`headroom.learned` must hold contenders, but {name} reads the truth of its world; leave it out."
            )


def _refuse_claim(plan: Plan, one: ComparisonSection, declared: Mapping[str, WorldMethod]) -> None:
    for name in (one.a, one.b):
        _refuse_absent(plan, name, "comparisons")
    if declared[one.a].needs_truth and one.claim != "bound":
        raise ConfigError(
            f"`comparisons` must not claim that {one.a} is {one.claim}, because it reads the truth of its world; "
            "say `claim: bound`."
        )
    if one.claim != "mechanism":
        return
    parent, placebo = one.parent or declared[one.a].parent, one.placebo or declared[one.a].placebo
    for role, name in (("parent", parent), ("placebo", placebo)):
        if name is None:
            raise ConfigError(
                f"`comparisons` claims a mechanism for {one.a}, which has no {role}; name one with `{role}: METHOD`, "
                "or say `claim: better`."
            )
        _refuse_absent(plan, name, f"comparisons ({role} of {one.a})")
    controls = (declared[one.a].placebo, *(f"{kind}:{one.a}" for kind in CONTROLS))
    if placebo not in controls or placebo in (one.b, parent):
        raise ConfigError(
            f"`comparisons` claims a mechanism for {one.a}, whose placebo must be a control of it "
            f"({', '.join(f'{kind}:{one.a}' for kind in CONTROLS)}) other than its opponent {one.b} and its parent "
            f"{parent}, but is {placebo} instead."
        )
    if parent == one.a:
        raise ConfigError(
            f"`comparisons` claims a mechanism for {one.a}, whose parent must be another method, "
            f"but is {parent} instead."
        )


def _refuse_absent(plan: Plan, name: str, where: str) -> None:
    if name not in plan.methods:
        raise ConfigError(
            f"`{where}` names {name!r}, which is not among the plan's `methods`; {did_you_mean(name, plan.methods)}"
        )
