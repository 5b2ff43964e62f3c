"""A tied weight has one gradient, and one buffer for it."""

from typing import Any, cast

import pytest
import tiny
import torch
from torch import Tensor, nn

from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward.chunked import chunked_token_logps
from betahead.forward.logit_head import LogitHead, logit_head_of
from betahead.forward.roads import pair_forward
from betahead.forward.shared import shared_forward
from betahead.forward.tied import embedded, tied_embedding
from betahead.types import PackedPairs, bundled

IDS = torch.tensor([3, 1, 3, 0, 7, 1])
LABELS = torch.tensor([1, 3, 0, 7, 1, 2])


def parts(padding: int | None = None) -> tuple[nn.Embedding, LogitHead]:
    torch.manual_seed(0)
    embedder = nn.Embedding(9, 4, padding_idx=padding, dtype=torch.float64)
    linear = nn.Linear(4, 9, bias=False, dtype=torch.float64)
    linear.weight = embedder.weight
    return embedder, LogitHead(module=linear)


def loss(states: Tensor, head: LogitHead, weight: Tensor | None = None, *, twice: bool = True) -> Tensor:
    first = chunked_token_logps(torch.tanh(states), LABELS, head, chunk=2, weight=weight).sum()
    return first + chunked_token_logps(states.sin(), LABELS, head, weight=weight).square().sum() if twice else first


@pytest.mark.parametrize("padding", [None, 0, 3])
@pytest.mark.parametrize("twice", [False, True])
def test_the_gradient_is_the_sum_of_both_uses(padding: int | None, twice: bool) -> None:
    embedder, head = parts(padding)
    (wanted,) = torch.autograd.grad(loss(embedder(IDS), head, twice=twice), embedder.weight)
    (found,) = torch.autograd.grad(loss(*_with(embedder, head), twice=twice), embedder.weight)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def _with(embedder: nn.Embedding, head: LogitHead) -> tuple[Tensor, LogitHead, Tensor]:
    states, weight = embedded(embedder, IDS)
    return states, head, weight


def test_the_logits_may_have_no_part() -> None:
    embedder, _ = parts()
    states, _ = embedded(embedder, IDS)
    (found,) = torch.autograd.grad(states.square().sum(), embedder.weight)
    (wanted,) = torch.autograd.grad(embedder(IDS).square().sum(), embedder.weight)
    torch.testing.assert_close(found, wanted)


def test_the_embedding_may_have_no_part() -> None:
    embedder, head = parts()
    _, weight = embedded(embedder, IDS)
    states = torch.ones(len(IDS), 4, dtype=torch.float64)
    (found,) = torch.autograd.grad(loss(states, head, weight), embedder.weight)
    (wanted,) = torch.autograd.grad(loss(states, head), embedder.weight)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("walks", ["a part, then all", "all of it twice", "a part, twice all"])
def test_a_graph_walked_in_parts_or_again_gives_the_plain_gradient_each_time(walks: str) -> None:
    model = tiny.qwen2(tie_word_embeddings=True)
    weight: Any = model.get_input_embeddings().weight

    def walked(collate: Any) -> list[Tensor]:
        logps, _ = pair_forward(model, bundled(collate(tiny.records(4))))
        whole = torch.nn.functional.softplus(logps.rejected - logps.chosen).sum()
        if walks.startswith("a part"):
            torch.autograd.grad(whole, [model.model.norm.weight], retain_graph=True)
        times = 2 if "twice" in walks else 1
        found = [torch.autograd.grad(whole, [weight], retain_graph=True)[0] for _ in range(times)]
        whole.backward()
        found.append(weight.grad.clone())
        model.zero_grad()
        return found

    for found, wanted in zip(walked(PackedCollator()), walked(PairCollator(pad_token_id=0)), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_gradients_of_several_batches_add_up() -> None:
    model = tiny.qwen2(tie_word_embeddings=True)
    found: dict[str, Tensor] = {}
    for name, collate in (("plain", PairCollator(pad_token_id=0)), ("packed", PackedCollator())):
        for seed in (0, 1):
            logps, _ = pair_forward(model, bundled(collate(tiny.records(3, seed))))
            (logps.chosen - logps.rejected).sum().backward()
        found[name] = cast("Tensor", model.get_input_embeddings().weight.grad).clone()
        model.zero_grad()
    torch.testing.assert_close(found["packed"], found["plain"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_what_the_logits_left_is_the_gradient_itself(autocast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    zeros_like = torch.zeros_like
    model = tiny.qwen2(tie_word_embeddings=True)
    shape = model.get_input_embeddings().weight.shape

    def seen(*arguments: Any, **keywords: Any) -> Tensor:
        zeros = zeros_like(*arguments, **keywords)
        made.extend([zeros.data_ptr()] if zeros.shape == shape else [])
        return zeros

    batch = PackedPairs.from_dict(PackedCollator()(tiny.records(3)))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logps, _ = shared_forward(model, batch)
    monkeypatch.setattr(torch, "zeros_like", seen)
    (logps.chosen - logps.rejected).sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient is not None
    assert made == [gradient.data_ptr()]


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
