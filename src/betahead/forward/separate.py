"""The plain road: every answer in a row of its own, the prompt twice, logits of all positions.

It is slow and simple on purpose: the oracle that faster roads must agree with.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from betahead.beta.rule import Need
from betahead.forward.prompt import prompt_features
from betahead.forward.token_logps import token_logps
from betahead.types import PairBatch, PairLogps, PromptFeatures


def selected_logps(
    logits: Float[Tensor, "rows tokens vocab"], input_ids: Tensor, selected: Bool[Tensor, "rows tokens"]
) -> Float[Tensor, "rows tokens"]:
    """The log-probability of each selected token given the tokens before it, and 0 elsewhere.

    The shift is done here: entry t is read from the logits of t − 1. The first token of a row has no predecessor and
    must not be selected.

    Returns:
        Values ≤ 0, nats, aligned with `selected`; float32 (float64 stays float64).
    """
    at = selected[:, 1:]
    values = token_logps(logits[:, :-1][at], input_ids[:, 1:][at])
    full = values.new_zeros(selected.shape)
    full[:, 1:] = full[:, 1:].masked_scatter(at, values)
    return full


def separate_forward(
    model: nn.Module,
    batch: PairBatch,
    needs: frozenset[Need] = frozenset(),
    *,
    couple: bool = False,
    common: bool = False,
) -> tuple[PairLogps, PromptFeatures]:
    """Log-probabilities of both answers and the prompt features, from one padded pass over two rows per pair.

    Args:
        model: a causal language model whose output has `logits` and, on request, `hidden_states`.
        batch: the pairs.
        needs: which prompt features to compute.
        couple: let gradient flow through the features.
        common: also sum over as many first tokens as both answers have.

    Returns:
        (log-probabilities, features); a feature that was not asked for is None.

    Gradient:
        Through the log-probabilities into the model; through the features only with `couple`.
    """
    wants_hidden = bool(needs & {Need.LAST_HIDDEN, Need.HIDDEN})
    pairs = batch.pairs
    outputs = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask.long(),
        use_cache=False,
        output_hidden_states=wants_hidden,
    )
    # Prompt-learning adapters put tokens of their own before every row; what they say is not of the row.
    own = outputs["logits"].shape[1] - batch.input_ids.shape[1]
    logits: Tensor = outputs["logits"][:, own:]
    values = selected_logps(logits, batch.input_ids, batch.completion_mask)
    summed = values.sum(dim=-1)
    counts = batch.completion_mask.sum(dim=-1)
    lengths = batch.prompt_mask.sum(dim=-1)

    def ppl() -> tuple[Tensor, Tensor]:
        counted = selected_logps(logits[:pairs], batch.input_ids[:pairs], batch.ppl_mask)
        return counted.sum(dim=-1), batch.ppl_tokens

    def states() -> Tensor:
        return outputs["hidden_states"][-1][:pairs, own:]

    features = prompt_features(
        needs,
        pairs=pairs,
        log_ppl=ppl,
        last_hidden=lambda: states()[torch.arange(pairs, device=lengths.device), lengths - 1],
        # The prompts' own rows: what lies behind them is masked.
        hidden=lambda: (states()[:, : int(lengths.max())], batch.prompt_mask[:, : int(lengths.max())]),
        couple=couple,
    )
    first = None
    if common:
        place = batch.completion_mask.cumsum(dim=-1)
        least = torch.minimum(counts[:pairs], counts[pairs:]).repeat(2)
        first = values.masked_fill(place > least.unsqueeze(1), 0.0).sum(dim=-1)
    logps = PairLogps(
        chosen=summed[:pairs],
        rejected=summed[pairs:],
        chosen_tokens=counts[:pairs],
        rejected_tokens=counts[pairs:],
        chosen_common=None if first is None else first[:pairs],
        rejected_common=None if first is None else first[pairs:],
    )
    return logps, features
