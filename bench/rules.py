"""The β of each arm."""

from typing import Any

from bench.arms import Arm

BETA = 0.1


def rule_of(arm: Arm) -> Any:
    """The β of one of our arms.

    The prior on the level of a learned β is off, so that every arm's first loss is log 2; it is one number a batch.
    """
    from betahead.beta.fixed import FixedBeta
    from betahead.beta.learned import LearnedBeta

    if arm.ppl_from is None:
        return FixedBeta(BETA)
    return LearnedBeta(net="mlp", ppl_from=arm.ppl_from, prior_weight=0.0)
