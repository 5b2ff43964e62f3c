"""The margin h: how much further than the reference the policy prefers the chosen answer."""

from jaxtyping import Float
from torch import Tensor

from betahead.types import PairLogps, ReferenceScores

Pairs = Float[Tensor, " pairs"]


def logratios(
    policy: PairLogps,
    reference: ReferenceScores | None,
    *,
    per_token: bool = False,
    ld_alpha: float | None = None,
) -> tuple[Pairs, Pairs]:
    """The log-ratios of chosen and rejected answers, log π_θ(y|x) − log π_ref(y|x).

    Args:
        policy: summed log-probabilities of the policy and the answers' token counts.
        reference: summed log-probabilities of the reference; None for losses without one, whose log-ratio is
            log π_θ(y|x) itself.
        per_token: divide each log-ratio by its answer's number of tokens (IPO); an empty answer counts as one token.
        ld_alpha: α in [0, 1], what the tokens count that an answer has beyond the length of the other one (LD-DPO);
            None and 1 count them in full.

    Returns:
        (chosen, rejected), nats per answer or nats per token; both 0 where the policy is the reference.

    Source:
        Rafailov et al. 2023, Direct Preference Optimization, section 4, https://arxiv.org/abs/2305.18290; α: Liu et
        al. 2024, Length Desensitization in Direct Preference Optimization, https://arxiv.org/abs/2409.06411.
    """
    chosen, rejected = answer_logps(policy, ld_alpha)
    if reference is not None:
        ours, theirs = reference_logps(reference, ld_alpha)
        chosen, rejected = chosen - ours, rejected - theirs
    return per_token_of(chosen, rejected, policy) if per_token else (chosen, rejected)


def per_token_of(chosen: Pairs, rejected: Pairs, policy: PairLogps) -> tuple[Pairs, Pairs]:
    """Both divided by their answer's number of tokens; an empty answer counts as one token.

    Source:
        Azar et al. 2023, https://arxiv.org/abs/2310.12036, as its authors run it.
    """
    return chosen / policy.chosen_tokens.clamp(min=1), rejected / policy.rejected_tokens.clamp(min=1)


def answer_logps(policy: PairLogps, ld_alpha: float | None) -> tuple[Pairs, Pairs]:
    """The policy's log-probabilities of both answers, with what α leaves of the longer one's end.

    Source:
        Liu et al. 2024, Length Desensitization in Direct Preference Optimization,
        https://arxiv.org/abs/2409.06411.
    """
    return (
        _desensitized(policy.chosen, policy.chosen_common, ld_alpha),
        _desensitized(policy.rejected, policy.rejected_common, ld_alpha),
    )


def reference_logps(reference: ReferenceScores, ld_alpha: float | None) -> tuple[Pairs, Pairs]:
    """The same of the reference.

    Source:
        See `answer_logps`.
    """
    return (
        _desensitized(reference.chosen_logps, reference.chosen_common_logps, ld_alpha),
        _desensitized(reference.rejected_logps, reference.rejected_common_logps, ld_alpha),
    )


def _desensitized(whole: Pairs, common: Pairs | None, ld_alpha: float | None) -> Pairs:
    if ld_alpha is None:
        return whole
    assert common is not None, "log-probabilities of the common length were not asked for"
    return common + ld_alpha * (whole - common)
