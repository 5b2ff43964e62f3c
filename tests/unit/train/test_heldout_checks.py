"""What held-out learning cannot be combined with is refused in a sentence."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.errors import ConfigError
from betahead.train.adapters import with_adapter
from betahead.train.heldout_checks import check_held_out


def refusal(policy: Any, args: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        check_held_out(LearnedBeta(learning="heldout"), args, policy)
    return str(refused.value)


def test_weights_that_are_spread_over_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = tiny.arguments(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert refusal(tiny.qwen2(), args) == (
        "`fsdp` and `deepspeed` must be off with learning.kind: heldout, which moves all trained weights on every "
        "rank, but one of them is on; train an adapter, or use learning.kind: perspective."
    )


def test_a_loss_that_is_scaled(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path)
    args.fp16 = True
    assert refusal(tiny.qwen2(), args) == (
        "`fp16` must be False with learning.kind: heldout, which reads gradients that are not scaled, but is True "
        "instead; use bf16."
    )


def test_trained_weights_in_half_precision_while_frozen_ones_may_be(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path)
    policy = tiny.qwen2().to(torch.bfloat16)
    assert refusal(policy, args) == (
        "the trained weights must be float32 with learning.kind: heldout, because a small move is lost in the rounding "
        "of others, but are bfloat16 instead; say dtype: float32, and bf16 for mixed precision, or train an adapter."
    )
    rule = LearnedBeta(learning="heldout")
    adapter = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    check_held_out(rule, args, with_adapter(policy, adapter, args))


def test_checkpointing_that_gives_gradients_to_every_weight_only(tmp_path: Path) -> None:
    args = tiny.arguments(tmp_path, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True})
    assert refusal(tiny.qwen2(), args) == (
        "`gradient_checkpointing_kwargs` must leave out use_reentrant with learning.kind: heldout, whose gradients are "
        "not those of a backward pass to every weight, but are {'use_reentrant': True} instead; remove it."
    )
    rule = LearnedBeta(learning="heldout")
    check_held_out(rule, tiny.arguments(tmp_path, gradient_checkpointing=True), tiny.qwen2())


def test_a_rule_that_holds_nothing_out_is_free(tmp_path: Path) -> None:
    check_held_out(FixedBeta(0.1), tiny.arguments(tmp_path), tiny.qwen2().to(torch.bfloat16))
