"""A tied weight has one gradient, and one buffer for it."""

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from betahead.data.pack import PackedCollator
from betahead.forward.chunked import chunked_token_logps
from betahead.forward.logit_head import LogitHead, logit_head_of
from betahead.forward.shared import shared_forward
from betahead.forward.tied import TiedGradient, embedded, tied_embedding
from betahead.types import PackedPairs

IDS = torch.tensor([3, 1, 3, 0, 7, 1])
LABELS = torch.tensor([1, 3, 0, 7, 1, 2])


def parts(padding: int | None = None) -> tuple[nn.Embedding, LogitHead]:
    torch.manual_seed(0)
    embedder = nn.Embedding(9, 4, padding_idx=padding, dtype=torch.float64)
    linear = nn.Linear(4, 9, bias=False, dtype=torch.float64)
    linear.weight = embedder.weight
    return embedder, LogitHead(module=linear)


@pytest.mark.parametrize("padding", [None, 0, 3])
@pytest.mark.parametrize("twice", [False, True])
def test_the_gradient_is_the_sum_of_both_uses(padding: int | None, twice: bool) -> None:
    embedder, head = parts(padding)

    def loss(states: Tensor, tied: TiedGradient | None) -> Tensor:
        first = chunked_token_logps(torch.tanh(states), LABELS, head, chunk=2, tied=tied).sum()
        return first + chunked_token_logps(states.sin(), LABELS, head, tied=tied).square().sum() if twice else first

    (wanted,) = torch.autograd.grad(loss(embedder(IDS), None), embedder.weight)
    tied = TiedGradient(torch.float64)
    (found,) = torch.autograd.grad(loss(embedded(embedder, IDS, tied), tied), embedder.weight)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert tied.taken() is None


def test_the_logits_may_have_no_part() -> None:
    embedder, _ = parts()
    states = embedded(embedder, IDS, TiedGradient(torch.float64))
    (found,) = torch.autograd.grad(states.square().sum(), embedder.weight)
    (wanted,) = torch.autograd.grad(embedder(IDS).square().sum(), embedder.weight)
    torch.testing.assert_close(found, wanted)


def test_what_the_logits_left_is_the_gradient_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    add = TiedGradient.add

    def seen(self: TiedGradient, gradient: Tensor) -> None:
        kept.append(gradient.data_ptr())
        add(self, gradient)

    monkeypatch.setattr(TiedGradient, "add", seen)
    model = tiny.qwen2(tie_word_embeddings=True)
    batch = PackedPairs.from_dict(PackedCollator()(tiny.records(3)))
    logps, _ = shared_forward(model, batch)
    (logps.chosen - logps.rejected).sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient is not None
    assert kept == [gradient.data_ptr()]


def test_embeddings_that_are_not_tied_or_not_alone_keep_their_own_gradient() -> None:
    embedder, head = parts()
    assert tied_embedding(embedder, head) is embedder
    with torch.no_grad():
        assert tied_embedding(embedder, head) is None
    assert tied_embedding(nn.Embedding(9, 4, dtype=torch.float64), head) is None
    handle = embedder.register_forward_hook(lambda *_: None)
    assert tied_embedding(embedder, head) is None
    handle.remove()
    embedder.scale_grad_by_freq = True
    assert tied_embedding(embedder, head) is None
    embedder.scale_grad_by_freq = False
    embedder.requires_grad_(False)
    assert tied_embedding(embedder, head) is None

    class Scaled(nn.Embedding):
        pass

    other: Any = Scaled(9, 4, dtype=torch.float64)
    other.weight = head.module.weight
    assert tied_embedding(other.requires_grad_(True), head) is None
    untied = tiny.qwen2(tie_word_embeddings=False)
    assert tied_embedding(untied.get_input_embeddings(), logit_head_of(untied)) is None
