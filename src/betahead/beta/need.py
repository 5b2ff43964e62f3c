"""What a beta rule can ask of the forward pass, which computes it only then."""

from enum import StrEnum


class Need(StrEnum):
    """What the forward pass hands to a rule only when the rule asks for it.

    `log_ppl`, `last_hidden` and `hidden` are of the prompt; `pair` is `types.PairReading`, in which the others fill a
    field each: `collision` of the policy its `confidence`, `entropy` of the reference its `reference_entropy`, and
    `perturbed` its `looser` and `tighter`, for which the reference itself is asked at every step. `states` is what the
    engine then takes from the reference; no rule asks for it.
    """

    LOG_PPL = "log_ppl"
    LAST_HIDDEN = "last_hidden"
    HIDDEN = "hidden"
    PAIR = "pair"
    COLLISION = "collision"
    ENTROPY = "entropy"
    PERTURBED = "perturbed"
    STATES = "states"
