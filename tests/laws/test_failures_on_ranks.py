"""A number that is not finite on one rank: all say the same of it, and each keeps what itself has seen."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import same_numbers
import torch
from together import DDP, Ranks, fsdp2
from torch import Tensor
from transformers import TrainerCallback

from betahead.errors import TrainingError
from betahead.train.guard_finite import check_finite, written_under
from betahead.train.ranks import own_rank

REMEDY = (
    "lower `learning_rate`, clip with `max_grad_norm`, or keep weights and arithmetic in float32, and begin a new run."
)


class Breaks(TrainerCallback):
    """Makes a number of the second rank's part of a weight infinite in the second step."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 1 and own_rank() == 1:
            weight = model.policy.model.norm.weight
            with torch.no_grad():
                getattr(weight, "_local_tensor", weight).fill_(math.inf)


def said(error: BaseException) -> dict[str, Tensor]:
    return {"said": torch.tensor(list(str(error).encode()), dtype=torch.uint8)}


def lost(folder: str) -> dict[str, Tensor]:
    """What a rank says when the second one's losses of the second step are no numbers."""
    made = same_numbers.trainer_of(Path(folder), "joint", batch=4, max_steps=3)
    passes: list[int] = []
    saw = made.finite.saw

    def seen(batch: Any, losses: Tensor, shown: Any) -> None:
        passes.append(1)
        saw(batch, losses * (math.nan if own_rank() == 1 and len(passes) == 2 else 1.0), shown)

    made.finite.saw = seen
    with pytest.raises(TrainingError) as raised:
        made.train()
    assert made.state.global_step == 1
    return said(raised.value)


def broken(folder: str) -> dict[str, Tensor]:
    """The same of a weight that is broken on the second rank when a checkpoint is due."""
    made = same_numbers.trainer_of(Path(folder), "joint", batch=4, max_steps=3, save_strategy="steps", save_steps=2)
    made.add_callback(Breaks())
    with pytest.raises(TrainingError) as raised:
        made.train()
    return said(raised.value)


def at_the_end(folder: str) -> dict[str, Tensor]:
    """The same of a loss that one rank finds when training has ended."""
    found = {"train_loss": math.inf if own_rank() == 1 else 0.5}
    with pytest.raises(TrainingError) as raised:
        check_finite(torch.nn.Linear(1, 1), found, 3, written_under(Path(folder) / "failures"))
    return said(raised.value)


@pytest.mark.parametrize(
    ("task", "wrapper", "words"),
    [
        (lost, "ddp", "`loss` is nan on rank 1 at step 2"),
        (broken, "ddp", "`policy.model.norm.weight` is nan on rank 1 at step 2"),
        pytest.param(broken, "fsdp2", "`policy.model.norm.weight` is nan on rank 1 at step 2", marks=pytest.mark.slow),
        (at_the_end, "ddp", "`train_loss` is inf on rank 1 at step 3"),
    ],
    ids=["a loss", "a weight", "a part of a weight", "the end"],
)
def test_what_one_rank_has_seen_is_named_by_all_and_kept_by_each(
    task: Any, wrapper: str, words: str, two_ranks: Ranks, tmp_path: Path
) -> None:
    environment = {"ddp": DDP, "fsdp2": fsdp2()}[wrapper]
    sentences = [
        bytes(one["said"].tolist()).decode() for one in two_ranks.run(task, str(tmp_path), environment=environment)
    ]
    (second,) = tmp_path.rglob("not_finite.rank1.json")
    first = second.with_name("not_finite.json")
    assert sentences == [f"training must stay finite, but {words} ({second}); {REMEDY}"] * 2
    both = [json.loads(file.read_text(encoding="utf-8")) for file in (first, second)]
    assert [one["ranks"] for one in both] == [[1], [1]]
    if task is lost:
        assert [[pair["offends"] for pair in one["pairs"]] for one in both] == [[False] * 4, [True] * 4]
        assert {pair["row"] for pair in both[0]["pairs"]}.isdisjoint(pair["row"] for pair in both[1]["pairs"])
