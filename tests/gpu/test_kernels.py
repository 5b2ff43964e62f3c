"""On CUDA: the variable-length kernel and FlexAttention against masked attention, values and gradients."""

import copy
from typing import Any

import families
import pytest
import tiny
import torch
from torch import Tensor, nn

from betahead.beta.rule import Need
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.forward.attention import KernelError, branch_attention
from betahead.forward.layout import Kernel, TrunkLayout
from betahead.forward.roads import pair_forward
from betahead.types import bundled, on_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("unchecked"),
]

SPANS = ((70, 33, 18), (5, 1, 40), (130, 64, 2), (1, 9, 9, 30))
SHAPES = {"as many key heads": (4, 4), "shared key heads": (8, 2), "one key head": (4, 1)}


def outcome(
    kernel: Kernel, dtype: torch.dtype, heads: tuple[int, int], width: int, settings: dict[str, Any]
) -> list[Tensor]:
    """The output and the gradients of queries, keys and values, from numbers that bfloat16 holds exactly."""
    draw = torch.Generator().manual_seed(0)
    tokens = sum(sum(span) for span in SPANS)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).bfloat16().to("cuda", dtype)

    states = [drawn(1, count, tokens, width).requires_grad_() for count in (heads[0], heads[1], heads[1])]
    layout = TrunkLayout(SPANS, torch.device("cuda"), kernel)
    out = branch_attention(nn.Identity(), *states, layout, **settings)
    return [out.detach(), *torch.autograd.grad(out, states, drawn(*out.shape))]


def assert_near(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert (one.double() - other.double()).abs().max() <= tolerance * other.abs().max()


@pytest.mark.parametrize("window", [None, 1, 7, 64])
@pytest.mark.parametrize("heads", SHAPES)
@pytest.mark.parametrize("width", [16, 64, 128])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_varlen_equals_masked_attention(dtype: torch.dtype, width: int, heads: str, window: int | None) -> None:
    settings = {"sliding_window": window, "scaling": 0.3}
    exact = outcome("sdpa", torch.float64, SHAPES[heads], width, settings)
    assert_near(outcome("varlen", dtype, SHAPES[heads], width, settings), exact, 0.02)
    assert_near(outcome("auto", dtype, SHAPES[heads], width, settings), exact, 0.02)


@pytest.mark.parametrize("window", [None, 7])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("heads", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 0.02)])
def test_flex_equals_masked_attention(
    dtype: torch.dtype, tolerance: float, heads: str, softcap: float | None, window: int | None
) -> None:
    settings = {"sliding_window": window, "softcap": softcap}
    exact = outcome("sdpa", torch.float64, SHAPES[heads], 64, settings)
    assert_near(outcome("flex", dtype, SHAPES[heads], 64, settings), exact, tolerance)


@pytest.mark.parametrize(
    ("dtype", "width", "settings", "reason"),
    [
        (torch.float32, 64, {}, "computes in float16 or bfloat16, but the model in torch.float32"),
        (torch.bfloat16, 64, {"softcap": 2.0}, "knows no softcap of scores"),
        (torch.bfloat16, 64, {"dropout": 0.1}, "drops no attention weights"),
        (
            torch.bfloat16,
            20,
            {},
            "wants heads of a width that is a multiple of 8 up to 256, but they have 20",
        ),
    ],
)
def test_varlen_is_refused_where_it_cannot_serve_and_auto_takes_another(
    dtype: torch.dtype, width: int, settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(KernelError) as refused:
        outcome("varlen", dtype, (4, 2), width, settings)
    assert str(refused.value) == (
        f"`forward.attention` must be auto, sdpa or flex here, but is varlen instead; it {reason}."
    )
    assert outcome("auto", dtype, (4, 2), width, settings)[0].isfinite().all()


@pytest.mark.parametrize("kernel", ["auto", "sdpa", "varlen", "flex"])
@pytest.mark.parametrize("name", ["qwen2", "mistral, window shorter than the row"])
def test_a_model_in_bf16_is_as_near_the_truth_as_on_the_plain_road(name: str, kernel: Kernel) -> None:
    # Kernels want heads of at least 16.
    wide = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    exact = families.family(name, **wide).cuda().train()
    records = tiny.records(6)

    def slopes(model: nn.Module, collate: Any, kernel: Kernel = "auto") -> Tensor:
        batch = bundled(on_device(collate(records), torch.device("cuda")))
        logps, features = pair_forward(model, batch, frozenset(Need), couple=True, kernel=kernel)
        assert features.log_ppl is not None
        nn.functional.softplus(-features.log_ppl * (logps.chosen - logps.rejected)).sum().backward()
        return torch.cat([one.flatten().float() for one in families.gradients(model).values()])

    plain = PairCollator(pad_token_id=0)
    truth = slopes(exact, plain)
    assert (slopes(exact, PackedCollator(), "sdpa") - truth).norm() <= 1e-4 * truth.norm()
    half = copy.deepcopy(exact).bfloat16()
    off = (slopes(half, plain) - truth).norm()
    assert (slopes(half, PackedCollator(), kernel) - truth).norm() <= 1.5 * off


def test_nothing_waits_for_the_device_in_forward_and_backward() -> None:
    model = families.family("qwen2", hidden_size=64, num_attention_heads=4).cuda().bfloat16().train()
    batch = bundled(on_device(PackedCollator()(tiny.records(6)), torch.device("cuda")))

    def step() -> None:
        logps, features = pair_forward(model, batch, frozenset(Need), couple=True)
        assert features.log_ppl is not None
        (features.log_ppl * (logps.chosen - logps.rejected)).sum().backward()

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
