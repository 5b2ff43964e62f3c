"""Two ranks learn what one does, also when their pairs need different numbers of passes."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from together import Ranks
from torch import Tensor
from transformers import TrainerCallback

from betahead.beta.learned import LearnedBeta
from betahead.data.lengths import tokens_of_rows
from betahead.train.parts import tokenized
from betahead.train.trainer import DPOTrainer


class Gradients(TrainerCallback):
    """The gradients of every step by step and name."""

    def __init__(self) -> None:
        self.steps: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, parameter in kwargs["model"].named_parameters():
            if parameter.grad is not None:
                self.steps[f"{state.global_step}/{name.removeprefix('module.')}"] = parameter.grad.clone()


RULES: dict[str, dict[str, Any]] = {
    "prior": {"prior_weight": 3.0},
    "answers": {"learning": {"kind": "budget", "target_kl": 0.3, "kl_from": "answers", "allocation": "joint"}},
    "samples": {"learning": {"kind": "budget", "target_kl": 0.3, "kl_every": 2, "kl_prompts": 5, "kl_tokens": 4}},
}


def trained(
    folder: Path, *, batch: int, budget: int | None, strategy: str, loss: str = "sigmoid", rule: str = "prior"
) -> tuple[Gradients, DPOTrainer, int]:
    """Four steps of eight pairs in float64; what rank 0 saw, and its number of passes."""
    torch.set_num_threads(1)
    seen = Gradients()
    args = tiny.arguments(
        folder,
        per_device_train_batch_size=batch,
        max_steps=4,
        optim="sgd",
        learning_rate=0.05,
        max_batch_tokens=budget,
        train_sampling_strategy=strategy,
        loss_type=loss,
        ddp_find_unused_parameters=False,
    )
    beta = LearnedBeta(**RULES[rule])
    data = tokenized(tiny.pairs(16), tiny.tokenizer(), args, beta)
    if strategy == "sequential":
        # Short and long pairs in turns of four: in every step the second rank has the long ones.
        by_length = sorted(range(16), key=[pair.longer_row for pair in tokens_of_rows(data)].__getitem__)
        data = data.select([by_length[i] for i in (0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7, 8, 9, 10, 11)])
    trainer = DPOTrainer(
        tiny.in_float64(tiny.qwen2()),
        tiny.in_float64(tiny.qwen2(1)),
        args,
        train_dataset=data,
        processing_class=tiny.tokenizer(),
        callbacks=[seen],
        beta=beta,
    )
    trainer.rule.double()
    if trainer.model.shift is not None:
        trainer.model.shift.double()
    tiny.scattered(trainer.rule, 0.2)
    batches = list(trainer.get_train_dataloader())
    trainer.train()
    return seen, trainer, sum(len(one["passes"]) for one in batches)


def one_of_two(
    folder: str, budget: int, strategy: str, loss: str = "sigmoid", rule: str = "prior"
) -> dict[str, Tensor]:
    """What a rank found: its gradients and what rule and loss keep."""
    seen, trainer, passes = trained(Path(folder), batch=4, budget=budget, strategy=strategy, loss=loss, rule=rule)
    assert trainer.accelerator.num_processes == 2
    found = seen.steps | dict(trainer.rule.mode.named_buffers()) | {"passes": torch.tensor(passes)}
    if trainer.model.shift is not None:
        found["shift"] = trainer.model.shift.mean
    lines = [line for line in trainer.state.log_history if "loss" in line]
    for name in ("loss", "beta/mean", "rewards/margins"):
        found[f"line/{name}"] = torch.tensor([line[name] for line in lines], dtype=torch.float64)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "strategy", "loss"),
    [
        (50, "sequential", "sigmoid"),
        (1, "sequential", "sigmoid"),
        (50, "group_by_length", "sigmoid"),
        (50, "sequential", "bco"),
    ],
)
def test_two_ranks_have_the_gradients_of_one(
    budget: int, strategy: str, loss: str, two_ranks: Ranks, tmp_path: Path
) -> None:
    wanted, alone, _ = trained(tmp_path / "one", batch=8, budget=None, strategy=strategy, loss=loss)
    ranks = two_ranks.run(one_of_two, str(tmp_path), budget, strategy, loss)
    if (budget, strategy) == (50, "sequential"):
        assert ranks[0]["passes"] < ranks[1]["passes"]
    lines = [line for line in alone.state.log_history if "loss" in line]
    for rank in ranks:
        torch.testing.assert_close(rank["level"], alone.rule.mode.level.double(), rtol=1e-12, atol=0.0)
        if alone.model.shift is not None:
            torch.testing.assert_close(rank["shift"], alone.model.shift.mean, rtol=1e-12, atol=0.0)
        for name, gradient in wanted.steps.items():
            assert (rank[name] - gradient).abs().max() <= 1e-12 * gradient.abs().max() + 1e-15, name
    for name in ("loss", "beta/mean", "rewards/margins"):
        assert ranks[0][f"line/{name}"].tolist() == pytest.approx([line[name] for line in lines], rel=1e-6, abs=1e-7)


@pytest.mark.slow
def test_two_ranks_move_the_level_of_a_budget_by_the_answers_of_both(two_ranks: Ranks, tmp_path: Path) -> None:
    _, alone, _ = trained(tmp_path / "one", batch=8, budget=None, strategy="sequential", rule="answers")
    wanted = dict(alone.rule.mode.named_buffers())
    assert set(wanted) == {"log_level", "centre", "kl"} and all(value.item() for value in wanted.values())
    for rank in two_ranks.run(one_of_two, str(tmp_path), 50, "sequential", "sigmoid", "answers"):
        for name, value in wanted.items():
            torch.testing.assert_close(rank[name], value.double(), rtol=1e-9, atol=0.0)


@pytest.mark.slow
def test_two_ranks_sample_for_one_budget(two_ranks: Ranks, tmp_path: Path) -> None:
    ranks = two_ranks.run(one_of_two, str(tmp_path), 50, "sequential", "sigmoid", "samples")
    assert ranks[0]["kl"].item() > 0
    for name in ("log_level", "kl"):
        assert torch.equal(ranks[0][name], ranks[1][name])
