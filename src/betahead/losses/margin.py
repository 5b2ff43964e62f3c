"""The margin h: how much further than the reference the policy prefers the chosen answer."""

from jaxtyping import Float
from torch import Tensor

from betahead.types import PairLogps, ReferenceScores


def logratios(
    policy: PairLogps, reference: ReferenceScores, *, per_token: bool = False
) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """The log-ratios of chosen and rejected answers, log π_θ(y|x) − log π_ref(y|x).

    Args:
        policy: summed log-probabilities of the policy and the answers' token counts.
        reference: summed log-probabilities of the reference.
        per_token: divide each log-ratio by its answer's number of tokens (IPO); an empty answer counts as one token.

    Returns:
        (chosen, rejected), nats per answer or nats per token; both 0 where the policy is the reference.

    Source:
        Rafailov et al. 2023, Direct Preference Optimization, section 4, https://arxiv.org/abs/2305.18290.
    """
    chosen = policy.chosen - reference.chosen_logps
    rejected = policy.rejected - reference.rejected_logps
    if per_token:
        chosen = chosen / policy.chosen_tokens.clamp(min=1)
        rejected = rejected / policy.rejected_tokens.clamp(min=1)
    return chosen, rejected


def policy_means(policy: PairLogps) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """The policy's mean log-probability per token of chosen and rejected answers, for margins without a reference.

    Returns:
        (chosen, rejected), nats per token, ≤ 0; an empty answer counts as one token.

    Source:
        Meng et al. 2024, SimPO, equation 3, https://arxiv.org/abs/2405.14734.
    """
    return policy.chosen / policy.chosen_tokens.clamp(min=1), policy.rejected / policy.rejected_tokens.clamp(min=1)
