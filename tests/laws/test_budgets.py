"""A budget of tokens decides how pairs go through the model, and nothing about what is learned from them."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiny
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.train.trainer import DPOTrainer

RULES: dict[str, dict[str, Any]] = {
    "level": {"prior_weight": 3.0},
    "each": {"prior_on": "each", "prior_weight": 3.0, "net": "transformer", "form": "direct"},
    "perspective": {"learning": "perspective", "net": "mlp"},
    "coupled": {"couple": True, "prior_weight": 3.0, "net": "transformer"},
}
# Ten pairs in steps of eight: the last window of an epoch is a short one. Rows have 5 to 13 tokens.
DATA = tiny.pairs(10)


def rule_named(name: str) -> BetaRule:
    return LearnedBeta(**RULES[name]) if name in RULES else FixedBeta(0.3)


class Gradients(TrainerCallback):
    """The gradients of every step, clipped."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        named = kwargs["model"].named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def trained(
    folder: Path, name: str, data: Dataset = DATA, *, batch: int = 8, accumulate: int = 1, **settings: Any
) -> Any:
    """Two epochs in float64: the gradients of every step, the lines of the log, and the number of passes."""
    seen = Gradients()
    args = tiny.arguments(
        folder,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulate,
        max_steps=-1,
        num_train_epochs=2,
        max_grad_norm=1.0,
        optim="sgd",
        learning_rate=0.05,
        **{"train_sampling_strategy": "sequential", "loss_type": settings.pop("loss", "sigmoid"), **settings},
    )
    policy, reference = tiny.in_float64(tiny.qwen2()), tiny.in_float64(tiny.qwen2(1))
    trainer = DPOTrainer(
        policy,
        reference,
        args,
        train_dataset=data,
        processing_class=tiny.tokenizer(),
        callbacks=[seen],
        beta=rule_named(name),
    )
    trainer.rule.double()
    tiny.scattered(trainer.rule, 0.2)
    passes = 0
    forward = trainer.compute_loss

    def counted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal passes
        passes += 1
        return forward(*arguments, **keywords)

    trainer.compute_loss = counted
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return seen.steps, lines, passes


def assert_same(found: Any, wanted: Any) -> None:
    """Gradients of every step, to 1e-12 of a tensor's largest entry, and the lines of the log."""
    assert len(found[0]) == len(wanted[0]) == 4
    for step, (mine, theirs) in enumerate(zip(found[0], wanted[0], strict=True)):
        assert mine.keys() == theirs.keys()
        for parameter, gradient in theirs.items():
            away = (mine[parameter] - gradient).abs().max()
            assert away <= 1e-12 * gradient.abs().max() + 1e-15, (step, parameter)
    for mine, theirs in zip(found[1], wanted[1], strict=True):
        for metric in ("loss", "rewards/margins", "beta/mean", "beta/std", "margins/nats", "penalty/mean"):
            assert mine[metric] == pytest.approx(theirs[metric], rel=1e-6, abs=1e-7), metric


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run without a budget, made once for every rule and loss."""
    folder = tmp_path_factory.mktemp("whole")
    return cache(lambda name, loss="sigmoid": trained(folder, name, loss=loss))


@pytest.mark.parametrize("name", ["fixed", "level", "perspective"])
def test_a_budget_changes_no_gradient_of_any_step(name: str, whole: Any, tmp_path: Path) -> None:
    medium = trained(tmp_path, name, max_batch_tokens=60)
    # Two epochs of eight and two pairs.
    assert whole(name)[2] == 4 < medium[2] < 20
    assert_same(medium, whole(name))


def test_passes_and_accumulation_are_two_cuts_of_one_window(whole: Any, tmp_path: Path) -> None:
    one_by_one = trained(tmp_path, "level", batch=4, accumulate=2, max_batch_tokens=1)
    assert one_by_one[2] == 20
    assert_same(one_by_one, whole("level"))


@pytest.mark.slow
@pytest.mark.parametrize("cut", [(8, 1), (4, 2), (3, 3), (1, 8)], ids=str)
@pytest.mark.parametrize("name", ["fixed", *RULES])
def test_no_cut_changes_a_gradient(name: str, cut: tuple[int, int], whole: Any, tmp_path: Path) -> None:
    batch, accumulate = cut
    wanted = trained(tmp_path, name, batch=9) if cut == (3, 3) else whole(name)
    for budget in (None, 1, 60, 100_000):
        assert_same(trained(tmp_path, name, batch=batch, accumulate=accumulate, max_batch_tokens=budget), wanted)


@pytest.mark.parametrize("loss", ["hinge", "ipo"])
def test_a_budget_changes_no_gradient_with_another_loss(loss: str, whole: Any, tmp_path: Path) -> None:
    assert_same(trained(tmp_path, "level", loss=loss, max_batch_tokens=60), whole("level", loss))


def test_the_order_of_pairs_inside_a_window_changes_nothing(whole: Any, tmp_path: Path) -> None:
    shuffled = DATA.select([5, 2, 7, 0, 1, 6, 4, 3, 9, 8])
    assert_same(trained(tmp_path, "level", shuffled, max_batch_tokens=60), whole("level"))


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_the_order_depends_neither_on_the_budget_nor_on_the_cut(strategy: str, tmp_path: Path) -> None:
    wanted = trained(tmp_path, "fixed", train_sampling_strategy=strategy)
    settings = {"train_sampling_strategy": strategy, "batch": 2, "accumulate": 4, "max_batch_tokens": 40}
    assert_same(trained(tmp_path, "fixed", **settings), wanted)
