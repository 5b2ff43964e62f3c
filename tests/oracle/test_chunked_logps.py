"""Chunked log-probabilities against the naive float64 computation: values, gradients, and what is held at once."""

from typing import Any

import families
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from betahead.forward.chunked import chunk_tokens, chunked_token_logps, tile
from betahead.forward.logit_head import LogitHead, logit_head_of
from betahead.forward.shared import base_of
from betahead.forward.token_logps import token_logps

HIDDEN, VOCAB = 8, 23


def linear(*, bias: bool = True, vocab: int = VOCAB, hidden: int = HIDDEN, dtype: Any = torch.float64) -> nn.Linear:
    return nn.Linear(hidden, vocab, bias=bias, dtype=dtype)


def states(tokens: int, *, hidden: int = HIDDEN, dtype: Any = torch.float64) -> Tensor:
    return (2 * torch.randn(tokens, hidden, dtype=torch.float64)).to(dtype).requires_grad_()


def naive(hidden: Tensor, labels: Tensor, head: LogitHead) -> Tensor:
    """All logits at once, in float64 whatever is given."""
    module: Any = head.module
    raw = hidden.double() @ module.weight.double().t()
    raw = head.scale * (raw if module.bias is None else raw + module.bias.double())
    if head.softcap is not None:
        raw = head.softcap * torch.tanh(raw / head.softcap)
    return raw.log_softmax(-1)[torch.arange(len(labels)), labels]


@given(
    tokens=st.integers(1, 9),
    chunk=st.integers(1, 12) | st.just(10**6),
    words=st.none() | st.integers(1, VOCAB + 1),
    bias=st.booleans(),
    scale=st.sampled_from([1.0, 0.0625, 3.0]),
    softcap=st.none() | st.sampled_from([0.5, 30.0]),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_values_and_every_gradient_equal_the_naive_ones(
    tokens: int, chunk: int, words: int | None, bias: bool, scale: float, softcap: float | None, seed: int
) -> None:
    torch.manual_seed(seed)
    head = LogitHead(module=linear(bias=bias), scale=scale, softcap=softcap)
    hidden, labels = states(tokens), torch.randint(VOCAB, (tokens,))
    # Repeated labels and weights of both signs and zero: what a preference loss gives back.
    slope = torch.randn(tokens, dtype=torch.float64)
    slope[0] = 0.0
    wanted_from = [hidden, *head.module.parameters()]
    found, wanted = chunked_token_logps(hidden, labels, head, chunk=chunk, words=words), naive(hidden, labels, head)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    assert (found <= 1e-12).all()
    slopes, wanted_slopes = (torch.autograd.grad(one, wanted_from, slope) for one in (found, wanted))
    for one, other in zip(slopes, wanted_slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_float32_is_as_near_as_its_rounding() -> None:
    head = LogitHead(module=linear(dtype=torch.float32), scale=0.5, softcap=3.0)
    hidden, labels = states(50, dtype=torch.float32), torch.randint(VOCAB, (50,))
    found, wanted = chunked_token_logps(hidden, labels, head, chunk=7), naive(hidden, labels, head)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-6, atol=1e-6)
    slopes = torch.autograd.grad(found.sum(), [hidden, *head.module.parameters()])
    for one, other in zip(slopes, torch.autograd.grad(wanted.sum(), [hidden, *head.module.parameters()]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_half_precision_is_normalised_in_float32_and_gives_gradients_of_its_own_dtype(
    dtype: torch.dtype, softcap: float | None
) -> None:
    head = LogitHead(module=linear(dtype=dtype), softcap=softcap)
    hidden, labels = states(60, dtype=dtype), torch.randint(VOCAB, (60,))
    found, wanted = chunked_token_logps(hidden, labels, head, chunk=11), naive(hidden, labels, head)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=0.02, atol=0.05)
    # The same rounding of the logits as the model's own head has, and none after it.
    plain = token_logps(head.logits(hidden), labels)
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    slope = torch.randn(60)
    wanted_from = [hidden, *head.module.parameters()]
    slopes = torch.autograd.grad(found, wanted_from, slope)
    exact = torch.autograd.grad(wanted, wanted_from, slope.double())
    for one, parameter, other in zip(slopes, wanted_from, exact, strict=True):
        assert one.dtype == parameter.dtype == dtype
        assert (one.double() - other).abs().max() <= 0.02 * other.abs().max()


@pytest.mark.parametrize("bias", [True, False])
def test_autocast_computes_in_half_and_keeps_gradients_in_float32(bias: bool) -> None:
    head = LogitHead(module=linear(bias=bias, dtype=torch.float32))
    hidden, labels = states(40, dtype=torch.float32), torch.randint(VOCAB, (40,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = chunked_token_logps(hidden, labels, head, chunk=9)
        plain = token_logps(head.logits(hidden), labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    wanted_from = [hidden, *head.module.parameters()]
    slopes, exact = (torch.autograd.grad(one.sum(), wanted_from) for one in (found, naive(hidden, labels, head)))
    for one, other in zip(slopes, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).abs().max() <= 0.02 * other.abs().max()


def test_no_labels_give_no_values_and_no_gradient() -> None:
    labels = torch.zeros(0, dtype=torch.long)
    for module in (linear(dtype=torch.float32), nn.Sequential(linear(dtype=torch.float32))):
        hidden = states(0, dtype=torch.float32)
        found = chunked_token_logps(hidden, labels, LogitHead(module=module))
        assert found.shape == (0,)
        assert found.dtype == torch.float32
        (found.sum() + hidden.sum()).backward()
        assert hidden.grad is not None and hidden.grad.shape == (0, HIDDEN)
        assert all(p.grad is None or not p.grad.any() for p in module.parameters())


class Made(TorchDispatchMode):
    """The shapes of all tensors that are made; a view is none."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {one.untyped_storage().data_ptr() for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        made = [one for one in tree_leaves(out) if isinstance(one, Tensor)]
        self.shapes += [tuple(one.shape) for one in made if one.untyped_storage().data_ptr() not in given]
        return out

    @property
    def largest(self) -> int:
        return max(torch.Size(shape).numel() for shape in self.shapes)


def most_held(
    tokens: int, vocab: int, *, chunk: int | None, whole: bool = False, frozen: bool = False, module: bool = False
) -> Made:
    made = linear(bias=False, vocab=vocab, hidden=4, dtype=torch.float32).requires_grad_(not frozen)
    head = LogitHead(module=nn.Sequential(made) if module else made)
    hidden, labels = states(tokens, hidden=4, dtype=torch.float32), torch.randint(vocab, (tokens,))
    with Made() as seen:
        if whole:
            values = token_logps(head.logits(hidden), labels)
        else:
            values = chunked_token_logps(hidden, labels, head, chunk=chunk)
        values.sum().backward()
    return seen


@pytest.mark.parametrize("module", [False, True], ids=["weight", "module"])
def test_what_is_held_at_once_grows_neither_with_tokens_nor_with_the_vocabulary(module: bool) -> None:
    sizes = [(tokens, vocab) for tokens in (64, 256) for vocab in (128, 512)]
    found = [most_held(tokens, vocab, chunk=4096 // vocab, module=module).largest for tokens, vocab in sizes]
    # A chunk of logits; the weight has 4 numbers a word.
    assert found == [4096] * 4
    assert [most_held(tokens, 512, chunk=None, whole=True).largest for tokens in (64, 256)] == [64 * 512, 256 * 512]


def test_what_is_held_at_once_by_default_is_a_tile() -> None:
    high, wide = tile(10**5, torch.device("cpu"))
    # The weight has 4 numbers a word, which a tile's 512 tokens outnumber.
    assert [most_held(tokens, vocab, chunk=None).largest for tokens, vocab in ((1100, 9000), (600, 20_000))] == [
        high * wide
    ] * 2
    assert tile(151_936, torch.device("cuda")) == (chunk_tokens(151_936, torch.device("cuda")), 151_936)


def test_chunks_hold_a_fixed_number_of_logits_and_at_least_one_token() -> None:
    assert chunk_tokens(2**13, torch.device("cpu")) == 2**10
    assert chunk_tokens(2**13, torch.device("cuda")) == 2**14
    assert chunk_tokens(2**40, torch.device("cpu")) == 1


def test_a_frozen_head_computes_no_gradient_of_its_weight() -> None:
    shape = (512, 4)
    assert shape in most_held(64, 512, chunk=8).shapes
    assert shape not in most_held(64, 512, chunk=8, frozen=True).shapes


def test_states_without_gradient_compute_none_of_theirs() -> None:
    head = LogitHead(module=linear())
    hidden, labels = states(10).detach(), torch.randint(VOCAB, (10,))
    chunked_token_logps(hidden, labels, head).sum().backward()
    wanted = torch.autograd.grad(naive(hidden, labels, head).sum(), list(head.module.parameters()))
    for parameter, gradient in zip(head.module.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    with torch.no_grad():
        assert not chunked_token_logps(hidden, labels, head).requires_grad


def test_tied_embeddings_get_the_gradient_of_both_their_uses() -> None:
    model, labels = tiny.qwen2().double(), torch.randint(tiny.VOCAB, (6,))
    embedding, head = model.get_input_embeddings().weight, logit_head_of(model)
    assert head.linear is not None and head.linear.weight is embedding
    ids = torch.randint(tiny.VOCAB, (6,))
    found, wanted = (
        torch.autograd.grad(logps(embedding[ids].sin(), labels, head).sum(), embedding)[0]
        for logps in (chunked_token_logps, naive)
    )
    torch.testing.assert_close(found, wanted)


ADAPTERS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": ["lm_head"]},
    "dora": {"target_modules": ["lm_head"], "use_dora": True},
    "a copy that is trained": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}


@tiny.OLD_NAMES
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_adapters_on_the_head_are_applied_and_get_their_gradient(adapter: str, chunk: int) -> None:
    model = get_peft_model(tiny.llama(), LoraConfig(r=2, task_type="CAUSAL_LM", **ADAPTERS[adapter])).double()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lm_head" in name:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    head = logit_head_of(base_of(model))
    assert head.linear is None
    hidden, labels = states(10, hidden=tiny.HIDDEN), torch.randint(tiny.VOCAB, (10,))
    slope = torch.randn(10, dtype=torch.float64)
    trained = [hidden, *(p for n, p in model.named_parameters() if p.requires_grad and "lm_head" in n)]
    assert len(trained) >= 2

    def both() -> tuple[Tensor, Tensor]:
        return chunked_token_logps(hidden, labels, head, chunk=chunk), token_logps(head.module(hidden), labels)

    found, wanted = both()
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    slopes, exact = (torch.autograd.grad(one, trained, slope) for one in (found, wanted))
    for one, other in zip(slopes, exact, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)
    with model.disable_adapter():
        without, plain = both()
    torch.testing.assert_close(without, plain)
    assert not torch.allclose(without, found)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_the_head_of_a_model_gives_the_logits_of_the_model(name: str) -> None:
    model = families.family(name)
    out = model(input_ids=torch.tensor([[5, 6, 7, 8]]), output_hidden_states=True)
    torch.testing.assert_close(logit_head_of(model).logits(out.hidden_states[-1][0]), out.logits[0])


def test_a_head_that_is_more_than_its_weight_is_called_as_a_module() -> None:
    def fresh() -> nn.Linear:
        return linear(dtype=torch.float32)

    assert LogitHead(module=fresh()).linear is not None
    calls: list[str] = []
    hooked = [fresh() for _ in range(4)]
    hooked[0].register_forward_hook(lambda *_: calls.append("after"))
    hooked[1].register_forward_pre_hook(lambda *_: calls.append("before"))
    hooked[2].register_full_backward_hook(lambda *_: calls.append("backward"))
    moved: Any = hooked[3]
    plain = moved.forward
    moved.forward = lambda states: (calls.append("instead"), plain(states))[1]
    hidden, labels = states(5, dtype=torch.float32), torch.randint(VOCAB, (5,))
    for module in hooked:
        head = LogitHead(module=module)
        assert head.linear is None
        found = chunked_token_logps(hidden, labels, head, chunk=2)
        torch.testing.assert_close(found, naive(hidden, labels, head).float())
        found.sum().backward()
    assert set(calls) == {"after", "before", "backward", "instead"}
