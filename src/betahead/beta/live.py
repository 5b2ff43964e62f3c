"""Rules that ask the reference itself at every step, and what cannot stand in for it."""

from betahead.beta.need import Need
from betahead.beta.rule import BetaRule
from betahead.errors import ConfigError


def check_reference(rule: BetaRule, *, precomputed: bool, cache: str | None = None) -> None:
    """Refuse scores of the reference that were computed beforehand, for a rule that needs the reference itself.

    Args:
        rule: the rule.
        precomputed: the reference speaks once, before training.
        cache: the folder that keeps what it said.

    Raises:
        ConfigError: with the setting that makes the reference speak at every step.
    """
    if Need.PERTURBED not in rule.of_reference:
        return
    because = f"with `beta.kind: {rule.kind}`, which compares the logits of policy and reference at every step"
    if precomputed:
        raise ConfigError(
            f"`precompute_ref_log_probs` must be False {because}, but is True instead; in a configuration say "
            "`reference.cache: live`."
        )
    if cache is not None:
        raise ConfigError(f"`reference_cache` must be None {because}, but is {cache!r} instead; leave it out.")
