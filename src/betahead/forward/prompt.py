"""Prompt features from a pass that ran anyway."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from betahead.beta.rule import Need
from betahead.forward.token_logps import at_least_float32
from betahead.types import PromptFeatures

LOG_PPL_FLOOR = 1e-2


def log_ppl_of(
    summed: Float[Tensor, " pairs"], counted: Int[Tensor, " pairs"]
) -> tuple[Float[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
    """Log PPL of prompts, −mean of their counted tokens' log-probabilities.

    Args:
        summed: log-probabilities of the counted tokens, summed, nats.
        counted: how many tokens count.

    Returns:
        (log PPL, known): nats per token, floored at 1e-2 because a negative power of a memorised template's perplexity
        explodes; `known` is False, and the value the floor, for a prompt without a counted token.
    """
    return (-summed / counted.clamp(min=1)).clamp(min=LOG_PPL_FLOOR), counted > 0


def prompt_features(
    needs: frozenset[Need],
    *,
    pairs: int,
    log_ppl: Callable[[], tuple[Tensor, Tensor]],
    last_hidden: Callable[[], Tensor],
    hidden: Callable[[], tuple[Tensor, Tensor]],
    couple: bool,
) -> PromptFeatures:
    """The features that a rule needs; only what is asked for is computed.

    Args:
        needs: what to compute; the rest stays None.
        pairs: number of prompts.
        log_ppl: gives the summed log-probability of each prompt's counted tokens, and their number.
        last_hidden: gives the hidden state of each prompt's last token, [pairs, hidden].
        hidden: gives the hidden states of all prompt tokens, padded, and the mask of those that are tokens.
        couple: let gradient flow through the features.
    """
    ppl = known = last = states = mask = None
    with torch.set_grad_enabled(couple and torch.is_grad_enabled()):
        if Need.LOG_PPL in needs:
            ppl, known = log_ppl_of(*log_ppl())
        if Need.LAST_HIDDEN in needs:
            last = at_least_float32(last_hidden())
        if Need.HIDDEN in needs:
            states, mask = hidden()
            states = at_least_float32(states)
    if not couple:
        # A view keeps its history even where no gradient is recorded.
        last, states = (None if one is None else one.detach() for one in (last, states))
    return PromptFeatures(pairs=pairs, log_ppl=ppl, has_ppl=known, last_hidden=last, hidden=states, hidden_mask=mask)
