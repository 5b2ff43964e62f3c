"""Sums over the vocabulary along answers, against loops in float64."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from betahead.beta.rule import Need
from betahead.forward.vocabulary import Perturbation, answer_sums
from betahead.types import AnswerSums

ALL = frozenset({Need.COLLISION, Need.ENTROPY, Need.STATES})
ROWS = 4


def case(seed: int, tokens: int, vocab: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of policy and reference, labels, and the answer of each token."""
    rng = torch.Generator().manual_seed(seed)
    policy, reference = (3 * torch.randn(tokens, vocab, generator=rng, dtype=torch.float64) for _ in range(2))
    return policy, reference, torch.randint(vocab, (tokens,), generator=rng), torch.arange(tokens) % ROWS


def sums(
    policy: Tensor, reference: Tensor, labels: Tensor, row: Tensor, *, size: float, chunk: int | None = None
) -> AnswerSums:
    def as_they_are(logits: Tensor) -> Tensor:
        return logits

    return answer_sums(
        ALL,
        policy,
        labels,
        row,
        rows=ROWS,
        logits=as_they_are,
        vocab=policy.shape[-1],
        beside=(Perturbation(size=size, states=reference), as_they_are),
        chunk=chunk,
    )


def log_softmax(row: list[float]) -> list[float]:
    top = max(row)
    total = math.log(math.fsum(math.exp(value - top) for value in row)) + top
    return [value - total for value in row]


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(2, 6), st.floats(0.001, 0.5))
def test_every_sum_is_that_of_a_loop_over_tokens_and_vocabulary(seed: int, tokens: int, vocab: int, e: float) -> None:
    policy, reference, labels, row = case(seed, tokens, vocab)
    wanted: dict[str, list[float]] = {name: [0.0] * ROWS for name in ("collision", "entropy", "looser", "tighter")}
    for t in range(tokens):
        own, theirs, label, place = policy[t].tolist(), reference[t].tolist(), int(labels[t]), int(row[t])
        logps = log_softmax(own)
        wanted["collision"][place] += math.log(math.fsum(math.exp(2 * one) for one in logps))
        wanted["entropy"][place] -= math.fsum(math.exp(one) * one for one in logps) / math.log(vocab)
        for name, step in (("looser", e), ("tighter", -e)):
            moved = log_softmax([(1 + step) * f - step * g for f, g in zip(own, theirs, strict=True)])
            wanted[name][place] += moved[label] - logps[label]
    found = sums(policy, reference, labels, row, size=e)
    for name, values in wanted.items():
        assert getattr(found, name).tolist() == pytest.approx(values, rel=1e-9, abs=1e-11), name


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_how_many_tokens_are_read_at_once_changes_nothing(chunk: int) -> None:
    given_case = case(3, 11, 7)
    whole, cut = sums(*given_case, size=0.1), sums(*given_case, size=0.1, chunk=chunk)
    for name, value in vars(whole).items():
        assert torch.equal(getattr(cut, name), value), name


def test_a_policy_that_is_its_reference_is_not_moved_by_a_single_bit() -> None:
    policy, _, labels, row = case(1, 9, 5)
    for dtype in (torch.float32, torch.float64):
        found = sums(policy.to(dtype), policy.to(dtype), labels, row, size=0.01)
        assert found.looser is not None and not found.looser.any()
        assert found.tighter is not None and not found.tighter.any()


def test_nothing_of_it_has_a_gradient() -> None:
    policy, reference, labels, row = case(1, 9, 5)
    found = sums(policy.requires_grad_(), reference, labels, row, size=0.01)
    assert not any(value.requires_grad for value in vars(found).values())


class Largest(TorchDispatchMode):
    """The size of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.found = max([self.found, *(one.numel() for one in tree_leaves(out) if isinstance(one, Tensor))])
        return out


def test_the_logits_of_all_tokens_are_never_there_together() -> None:
    vocab, width = 64, 4
    weights = torch.randn(2, vocab, width)

    def most(tokens: int) -> int:
        states, theirs = torch.randn(2, tokens, width)
        labels, row = torch.randint(vocab, (tokens,)), torch.arange(tokens) % ROWS
        beside = (Perturbation(size=0.1, states=theirs), lambda some: some @ weights[1].T)
        with Largest() as seen:
            answer_sums(
                ALL,
                states,
                labels,
                row,
                rows=ROWS,
                logits=lambda some: some @ weights[0].T,
                vocab=vocab,
                beside=beside,
                chunk=16,
            )
        return seen.found

    assert most(64) == most(128) == 16 * vocab


def test_only_what_is_asked_for_is_there() -> None:
    policy, _, labels, row = case(1, 9, 5)
    found = answer_sums(
        frozenset({Need.ENTROPY}), policy, labels, row, rows=ROWS, logits=lambda states: states, vocab=5
    )
    assert [name for name, value in vars(found).items() if value is not None] == ["entropy"]


def test_a_uniform_model_has_the_whole_entropy_and_a_sure_one_none() -> None:
    labels, row = torch.zeros(2, dtype=torch.long), torch.tensor([0, 1])
    logits = torch.tensor([[0.0, 0.0, 0.0], [500.0, 0.0, 0.0]])
    found = answer_sums(ALL, logits, labels, row, rows=2, logits=lambda states: states, vocab=3)
    assert found.entropy is not None and found.entropy.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert found.collision is not None and found.collision.tolist() == pytest.approx([-math.log(3), 0.0], abs=1e-6)
