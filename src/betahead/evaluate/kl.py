"""How far a policy has moved from its reference: the KL divergence of its own answers, with its standard error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from betahead.errors import DataError
from betahead.evaluate.both_models import logits_of_both
from betahead.evaluate.generate import Prompt, sample_answers
from betahead.forward.modes import evaluating
from betahead.forward.token_logps import token_logps

Answers = Sequence[Sequence[Sequence[int]]]
"""Token ids by prompt, sample and position: what `sample_answers` returns."""


@dataclass(frozen=True, kw_only=True)
class KLEstimate:
    """A mean over prompts in nats per answer; its standard error is None for a single prompt."""

    nats: float
    standard_error: float | None
    prompts: int
    answers: int


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoredAnswers:
    """The policy's answers as both models see them.

    Args:
        policy_logps: log π_θ(y|x), summed over the answer's tokens, its end token included.
        reference_logps: log π_ref(y|x), likewise.
        conditional_kl: sum over the answer's positions of the KL between the two distributions of the next token.
        tokens: length of the answer.
        cut: True where the answer has no end token.
    """

    policy_logps: Float[np.ndarray, "prompts samples"]
    reference_logps: Float[np.ndarray, "prompts samples"]
    conditional_kl: Float[np.ndarray, "prompts samples"]
    tokens: Int[np.ndarray, "prompts samples"]
    cut: Bool[np.ndarray, "prompts samples"]


@dataclass(frozen=True, eq=False, kw_only=True)
class KLToReference:
    """The KL to the reference, estimated twice from the same answers.

    Args:
        kl: from the next-token distributions at every position of the answers: the less noisy one; below 0 by rounding
            only.
        sampled: from the log-probabilities of the sampled tokens alone: the usual estimate.
        cut: share of the answers that `max_new_tokens` cut; both estimates count such an answer up to the cut, so they
            measure the divergence within that many tokens.
        mean_tokens: mean length of the answers.
        answers: the answers themselves, by prompt and sample.
    """

    kl: KLEstimate
    sampled: KLEstimate
    cut: float
    mean_tokens: float
    answers: list[list[list[int]]]


def mean_by_prompt(values: Float[np.ndarray, "prompts samples"]) -> KLEstimate:
    """The mean of per-answer values with a standard error across prompts.

    Answers to one prompt are alike, so prompts are what is independent: the error is the spread of the prompts' means
    over the root of their number, however many answers each has.

    Raises:
        DataError: there is no answer.
    """
    if values.size == 0:
        raise DataError("`answers` must hold at least one answer, but holds none.")
    means = values.mean(axis=1)
    prompts = len(means)
    error = float(means.std(ddof=1)) / math.sqrt(prompts) if prompts > 1 else None
    return KLEstimate(nats=float(means.mean()), standard_error=error, prompts=prompts, answers=int(values.size))


def on_policy_kl(
    policy_logps: Float[np.ndarray, "prompts samples"], reference_logps: Float[np.ndarray, "prompts samples"]
) -> KLEstimate:
    """KL(π_θ ‖ π_ref) in nats per answer, from the log-probabilities of answers that the policy sampled.

    The mean of log π_θ(y|x) − log π_ref(y|x) over y ~ π_θ(·|x) at temperature 1, then over prompts. It is unbiased, and
    can be negative by chance.

    Args:
        policy_logps: log π_θ(y|x) of each answer, nats.
        reference_logps: log π_ref(y|x) of the same answers.
    """
    assert policy_logps.shape == reference_logps.shape, (policy_logps.shape, reference_logps.shape)
    return mean_by_prompt(policy_logps - reference_logps)


def kl_to_reference(
    policy: nn.Module,
    reference: nn.Module | None,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Prompt],
    *,
    samples: int,
    max_new_tokens: int,
    seed: int,
    eos_token_ids: Sequence[int],
    batch_size: int = 16,
) -> KLToReference:
    """KL(π_θ ‖ π_ref) in nats per answer, from answers sampled here at temperature 1.

    Args:
        policy: a causal language model of transformers, or a PEFT model around one.
        reference: the reference, or None for a PEFT policy whose reference is itself with the adapters off.
        samples: answers per prompt.
        batch_size: answers sampled and scored at a time.
    """
    answers = sample_answers(
        policy,
        tokenizer,
        prompt_ids,
        samples=samples,
        max_new_tokens=max_new_tokens,
        seed=seed,
        eos_token_ids=eos_token_ids,
        batch_size=batch_size,
    )
    scored = scored_answers(policy, reference, prompt_ids, answers, eos_token_ids=eos_token_ids, batch_size=batch_size)
    return KLToReference(
        kl=mean_by_prompt(scored.conditional_kl),
        sampled=on_policy_kl(scored.policy_logps, scored.reference_logps),
        cut=float(scored.cut.mean()),
        mean_tokens=float(scored.tokens.mean()),
        answers=answers,
    )


def scored_answers(
    policy: nn.Module,
    reference: nn.Module | None,
    prompt_ids: Sequence[Prompt],
    answers: Answers,
    *,
    eos_token_ids: Sequence[int],
    batch_size: int = 16,
) -> ScoredAnswers:
    """Log-probabilities and next-token divergences of answers under the policy and the reference.

    Args:
        answers: as many for every prompt, none without a token.
        eos_token_ids: an answer that ends with none of these was cut.
    """
    rows = [(prompt, answer) for prompt, given in zip(prompt_ids, answers, strict=True) for answer in given]
    scores = np.zeros((3, len(rows)))
    order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]) + len(rows[row][1]))
    with evaluating(policy), torch.no_grad():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            scores[:, batch] = _batch_scores(policy, reference, [rows[row] for row in batch])
    shape = (len(prompt_ids), len(rows) // max(1, len(prompt_ids)))
    policy_logps, reference_logps, conditional_kl = scores.reshape(3, *shape)
    return ScoredAnswers(
        policy_logps=policy_logps,
        reference_logps=reference_logps,
        conditional_kl=conditional_kl,
        tokens=np.array([len(answer) for _, answer in rows]).reshape(shape),
        cut=np.array([answer[-1] not in eos_token_ids for _, answer in rows]).reshape(shape),
    )


def _batch_scores(
    policy: nn.Module, reference: nn.Module | None, rows: Sequence[tuple[Prompt, Sequence[int]]]
) -> Float[np.ndarray, "3 rows"]:
    """Policy log-probability, reference log-probability and summed next-token KL of each row's answer."""
    scores = np.zeros((3, len(rows)))
    for number, (of_policy, of_reference, labels) in enumerate(logits_of_both(policy, reference, rows)):
        scores[0, number] = token_logps(of_policy, labels).sum().item()
        scores[1, number] = token_logps(of_reference, labels).sum().item()
        scores[2, number] = _summed_kl(of_policy, of_reference).item()
    return scores


def _summed_kl(policy_logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Sum over positions of KL(softmax(policy) ‖ softmax(reference))."""
    policy, reference = (
        (logits if logits.dtype.itemsize == 8 else logits.float()).log_softmax(-1)
        for logits in (policy_logits, reference_logits)
    )
    weight = policy.exp()
    # A token that the policy cannot produce adds nothing, whatever the reference says of it.
    return torch.where(weight > 0, weight * (policy - reference), 0.0).sum()
