"""An anchor: the chosen answers' own likelihood, which a loss of differences lets fall."""

from jaxtyping import Float, Int
from torch import Tensor

Pairs = Float[Tensor, " pairs"]


def sft(chosen_logps: Pairs, chosen_tokens: Int[Tensor, " pairs"]) -> Pairs:
    """The mean negative log-probability of a token of the chosen answers: supervised fine-tuning on them.

    Every token counts the same, so a pair's share is that of its tokens, and the tokens are those of one pass.

    Args:
        chosen_logps: log-probabilities of the chosen answers under the policy, summed, nats.
        chosen_tokens: their numbers of tokens.

    Returns:
        Values ≥ 0 whose mean over the pairs is the mean over the tokens, nats per token.

    Source:
        Pang et al. 2024, Iterative Reasoning Preference Optimization, https://arxiv.org/abs/2404.19733; as one of
        several weighted losses: Wang et al. 2024, Mixed Preference Optimization, https://arxiv.org/abs/2411.10442.

    Deviates:
        The first takes the mean over tokens answer by answer; like TRL and the second, we take it over all tokens.
    """
    return -chosen_logps * len(chosen_logps) / chosen_tokens.sum().clamp(min=1)
