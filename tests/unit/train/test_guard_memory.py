"""A full device is one sentence, with the size of the pass and what makes it smaller."""

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from betahead.errors import TrainingError
from betahead.train.trainer import DPOTrainer


class Full(torch.nn.Module):
    """A layer that finds no room from its n-th call on."""

    def __init__(self, inner: torch.nn.Module, calls: int) -> None:
        super().__init__()
        self.inner, self.left = inner, calls

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.inner(*arguments, **keywords)


def full(folder: Path, *, passes: int = 0, **settings: Any) -> tuple[str, DPOTrainer]:
    """What is said by a run whose device is full after so many passes."""
    made = DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(folder, train_sampling_strategy="sequential", **settings),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
    )
    inner = made.model.policy.model
    inner.norm = Full(inner.norm, passes)
    with pytest.raises(TrainingError) as raised:
        made.train()
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    return str(raised.value), made


def tokens(made: DPOTrainer, rows: list[int]) -> int:
    parts = ("prompt_ids", "chosen_ids", "rejected_ids")
    return sum(len(made.train_dataset[row][part]) for row in rows for part in parts)


BUSY = {"gradient_checkpointing": True}
REMEDIES: dict[str, tuple[dict[str, Any], str]] = {
    "activations are kept": (
        {},
        "set `gradient_checkpointing: true`, which recomputes activations instead of keeping them",
    ),
    "several pairs": (BUSY, "set `max_batch_tokens` to at most {half}, which cuts batches and changes nothing else"),
    "one pair": (
        BUSY | {"per_device_train_batch_size": 1},
        "lower `max_length`, now 1024, or train adapters",
    ),
    "pairs that act on one another": (
        BUSY | {"loss_type": "aot"},
        "lower `per_device_train_batch_size`, now 2, and raise `gradient_accumulation_steps`, now 1, by the same "
        "factor",
    ),
}


@tiny.OLD_NAMES
@pytest.mark.parametrize("case", REMEDIES)
def test_the_sentence_names_the_pass_and_the_setting(case: str, tmp_path: Path) -> None:
    settings, remedy = REMEDIES[case]
    message, made = full(tmp_path, **settings)
    size = made.args.per_device_train_batch_size
    count = tokens(made, list(range(size)))
    assert message == (
        f"a pass must fit into the memory of the device (cpu), but {'1 pair' if size == 1 else '2 pairs'} with {count} "
        f"tokens at step 1 did not; {remedy.format(half=count // 2)}."
    )


def test_the_pass_is_the_one_that_did_not_fit(tmp_path: Path) -> None:
    message, _ = full(tmp_path, passes=3, per_device_train_batch_size=4, max_batch_tokens=1)
    assert re.search(r"but 1 pair with \d+ tokens at step 1 did not", message)
    message, _ = full(tmp_path, passes=5, per_device_train_batch_size=4, max_batch_tokens=1)
    assert "at step 2 did not" in message


class Greedy(torch.nn.Module):
    """A layer that asks the device for more than there is."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + torch.empty(2**50, dtype=torch.uint8, device=hidden.device).sum()


@pytest.mark.gpu
def test_on_a_cuda_device_a_pass_that_is_too_large_is_one_sentence(tmp_path: Path) -> None:
    made = DPOTrainer(
        tiny.qwen2(),
        args=tiny.arguments(tmp_path, use_cpu=False),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
    )
    made.model.policy.model.norm = Greedy()
    with pytest.raises(TrainingError, match=r"^a pass must fit into the memory of the device \(cuda:0\), but 2 pairs"):
        made.train()
