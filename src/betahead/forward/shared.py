"""The fast road: every prompt once, its answers as branches, nothing padded, only the logits that are asked for."""

from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from betahead.beta.rule import Need
from betahead.forward.attention import LAYOUT, sharing_attention
from betahead.forward.chunked import chunked_token_logps
from betahead.forward.layout import Kernel, TrunkLayout
from betahead.forward.logit_head import LogitHead, logit_head_of
from betahead.forward.prompt import prompt_features
from betahead.forward.tied import embedded, tied_embedding
from betahead.forward.vocabulary import READ, Perturbation, answer_sums
from betahead.types import AnswerSums, PackedPairs, PairLogps, PromptFeatures, ScoredTokens


def shared_forward(
    model: nn.Module,
    batch: PackedPairs,
    needs: frozenset[Need] = frozenset(),
    *,
    couple: bool = False,
    common: bool = False,
    beside: Perturbation | None = None,
    kernel: Kernel = "auto",
) -> tuple[PairLogps, PromptFeatures]:
    """Log-probabilities of both answers and the prompt features, from one pass over each prompt.

    Args:
        model: a causal language model, with or without adapters, whose attention can be called by name.
        batch: the pairs; the layout takes any number of answers, this scores two.
        needs: which prompt features to compute; none costs a further pass through the body.
        couple: let gradient flow through the features.
        common: also sum over as many first tokens as both answers have.
        beside: the reference, to perturb the policy with.
        kernel: what carries the attention out.

    Returns:
        (log-probabilities, features); a feature that was not asked for is None.

    Gradient:
        Through the log-probabilities into the model; through the features only with `couple`.

    Raises:
        ConfigError: for attention that cannot be shared.
    """
    parts = {len(span) for span in batch.spans}
    assert parts == {3}, f"a pair is a prompt and 2 answers, but the batch has {sorted(n - 1 for n in parts)} answers"
    inner = base_of(model)
    head = logit_head_of(inner)
    embedder = tied_embedding(inner.get_input_embeddings(), head)
    states, weight = (None, None) if embedder is None else embedded(embedder, batch.input_ids)
    hidden = packed_hidden(inner, batch, kernel, states=states)
    pairs = batch.pairs
    values = _values(hidden, batch.answers, head, weight)
    summed = _by_row(values, batch.answers.row, rows=2 * pairs)
    counts = torch.zeros_like(batch.prompt_tokens).repeat(2)
    counts = counts.index_add(0, batch.answers.row, torch.ones_like(batch.answers.row))
    features = prompt_features(
        needs,
        pairs=pairs,
        log_ppl=lambda: _mean_nll(hidden, batch, head, weight),
        last_hidden=lambda: hidden[batch.prompt_at.gather(1, batch.prompt_tokens.unsqueeze(1) - 1).squeeze(1)],
        hidden=lambda: (hidden[batch.prompt_at], _before(batch)),
        couple=couple,
    )
    first = _by_row(values * _within(batch, counts), batch.answers.row, rows=2 * pairs) if common else None
    logps = PairLogps(
        chosen=summed[:pairs],
        rejected=summed[pairs:],
        chosen_tokens=counts[:pairs],
        rejected_tokens=counts[pairs:],
        chosen_common=None if first is None else first[:pairs],
        rejected_common=None if first is None else first[pairs:],
        sums=_sums(needs, hidden, batch, head, beside),
    )
    return logps, features


def base_of(model: nn.Module) -> PreTrainedModel:
    """The causal language model inside its adapters, whose layers carry them."""
    return cast("PreTrainedModel", model.get_base_model() if isinstance(model, PeftModel) else model)


def packed_hidden(
    model: PreTrainedModel,
    batch: PackedPairs,
    kernel: Kernel = "auto",
    *,
    states: Float[Tensor, "tokens hidden"] | None = None,
) -> Float[Tensor, "tokens hidden"]:
    """The last hidden state of every packed token, from one pass through the body.

    Args:
        model: without the wrapper of its adapters.
        batch: the pairs.
        kernel: what carries the attention out.
        states: the embeddings of the tokens, where the caller made them; None for those of the model.
    """
    sharing_attention(model)
    # A mask of four axes is taken as it is by every model, and ignored by the attention where there is a layout:
    # without one the library would look for packed sequences in the positions, and cut answers off their prompts.
    unread = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=batch.input_ids.device)
    output: Any = cast("Any", model.get_decoder())(
        **({"input_ids": batch.input_ids.unsqueeze(0)} if states is None else {"inputs_embeds": states.unsqueeze(0)}),
        position_ids=batch.position_ids.unsqueeze(0),
        attention_mask=unread,
        use_cache=False,
        **{LAYOUT: TrunkLayout.of(batch, kernel)},
    )
    return cast("Tensor", output.last_hidden_state)[0]


def _values(hidden: Tensor, scored: ScoredTokens, head: LogitHead, weight: Tensor | None) -> Float[Tensor, " scored"]:
    return chunked_token_logps(hidden.index_select(0, scored.at), scored.ids, head, weight=weight)


def _by_row(values: Tensor, row: Tensor, *, rows: int) -> Float[Tensor, " rows"]:
    return values.new_zeros(rows).index_add(0, row, values)


def _within(batch: PackedPairs, counts: Int[Tensor, " rows"]) -> Bool[Tensor, " scored"]:
    """Which scored tokens are among as many first ones as both answers of their pair have; rows lie end to end."""
    row = batch.answers.row
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(dim=0) - counts)[row]
    return place < torch.minimum(counts[: batch.pairs], counts[batch.pairs :]).repeat(2)[row]


def _sums(
    needs: frozenset[Need], hidden: Tensor, batch: PackedPairs, head: LogitHead, beside: Perturbation | None
) -> AnswerSums:
    if not needs & READ and beside is None:
        return AnswerSums()
    answers = batch.answers
    theirs = None if beside is None else beside.head or head.without_adapters
    return answer_sums(
        needs,
        hidden.detach().index_select(0, answers.at),
        answers.ids,
        answers.row,
        rows=2 * batch.pairs,
        logits=head.logits,
        vocab=head.vocab,
        beside=None if beside is None or theirs is None else (beside, theirs.logits),
    )


def _mean_nll(hidden: Tensor, batch: PackedPairs, head: LogitHead, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """The summed log-probability of each prompt's counted tokens, and how many there are."""
    values = _values(hidden, batch.prompts, head, weight)
    return _by_row(values, batch.prompts.row, rows=batch.pairs), batch.ppl_tokens


def _before(batch: PackedPairs) -> Tensor:
    longest = batch.prompt_at.shape[1]
    return torch.arange(longest, device=batch.prompt_at.device) < batch.prompt_tokens.unsqueeze(1)
