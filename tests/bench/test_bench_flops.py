"""The counter of operations against torch's own, and its closed forms."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.flops import (
    Lengths,
    attention_per_link,
    body_per_token,
    head_per_position,
    links,
    parameters,
    step_flops,
)
from bench.geometries import TINY, ModelShape
from bench.prepare import fresh_model

SHAPE = replace(TINY, layers=3, hidden=48, heads=6, kv_heads=2, intermediate=80)
PAIRS = [Lengths(7, 3, 2), Lengths(4, 1, 5)]


def by_operation(shape: ModelShape, tokens: int, *, backward: bool = False) -> dict[str, int]:
    """What torch counts for one row, every position scored."""
    model = fresh_model(shape)
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.arange(4, 4 + tokens).unsqueeze(0), use_cache=False).logits
        if backward:
            logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return {str(operation).rpartition(".")[2]: count for operation, count in counts.items()}


def test_body_and_head_are_what_torch_counts_as_matrix_products() -> None:
    counted = by_operation(SHAPE, 11)
    assert counted["mm"] + counted["addmm"] == 11 * (body_per_token(SHAPE) + head_per_position(SHAPE))


def test_attention_is_what_torch_counts_for_all_links_of_a_row() -> None:
    assert by_operation(SHAPE, 11)["bmm"] == 11 * 11 * attention_per_link(SHAPE)


def test_a_backward_pass_costs_twice_the_forward_pass() -> None:
    forward = 11 * (body_per_token(SHAPE) + head_per_position(SHAPE))
    counted = by_operation(SHAPE, 11, backward=True)
    # The first layer's input needs a gradient too, because the embedding is trained.
    assert counted["mm"] + counted["addmm"] == 3 * forward


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_model(tied: bool) -> None:
    shape = replace(SHAPE, tied=tied)
    assert parameters(shape) == sum(p.numel() for p in fresh_model(shape).parameters())


def test_sharing_the_prompt_saves_its_tokens_and_its_own_links() -> None:
    shared, separate = (step_flops(PAIRS, SHAPE, road=road) for road in ("shared", "separate"))
    assert separate.body - shared.body == 3 * (7 + 4) * body_per_token(SHAPE)
    assert separate.attention - shared.attention == 3 * (28 + 10) * attention_per_link(SHAPE)
    assert separate.head == shared.head == 3 * (3 + 2 + 1 + 5) * head_per_position(SHAPE)


def test_links_of_separate_rows_are_those_of_two_triangles() -> None:
    assert links(Lengths(7, 3, 2), "separate") == 10 * 11 // 2 + 9 * 10 // 2


def test_a_live_reference_adds_one_forward_pass() -> None:
    plain = step_flops(PAIRS, SHAPE, road="separate")
    live = step_flops(PAIRS, SHAPE, road="separate", live_reference=True)
    assert live.reference * 3 == plain.total
    assert live.total == plain.total + live.reference


def test_a_learned_beta_adds_the_head_on_the_prompt_forward_only() -> None:
    fixed = step_flops(PAIRS, SHAPE, road="shared")
    policy = step_flops(PAIRS, SHAPE, road="shared", ppl_from="policy", head_parameters=10)
    reference = step_flops(PAIRS, SHAPE, road="shared", ppl_from="reference", head_parameters=10)
    assert policy.total - fixed.total == (6 + 3) * head_per_position(SHAPE) + 120
    assert reference.total - fixed.total == 120


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    trained = step_flops(PAIRS, SHAPE, road="shared")
    frozen = step_flops(PAIRS, SHAPE, road="shared", trained_share=0.0)
    assert (frozen.body * 3, frozen.head * 3) == (trained.body * 2, trained.head * 2)
    assert frozen.attention == trained.attention
