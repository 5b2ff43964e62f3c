"""Every pair weighs the same, however the batch is cut, padded or ordered."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback

from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.data.pack import PackedCollator
from betahead.forward.model import PreferenceModel
from betahead.train.trainer import DPOTrainer

RULES: dict[str, dict[str, Any]] = {
    "joint": {"prior_on": "each"},
    "perspective": {"learning": "perspective", "net": "mlp"},
    "transformer": {"prior_on": "each", "net": "transformer", "form": "direct"},
    "budget": {"learning": {"kind": "budget", "target_kl": 2.0, "kl_from": "answers", "allocation": "joint"}},
    "coupled": {"prior_on": "each", "couple": True, "net": "transformer"},
}


def rule_named(name: str) -> BetaRule:
    return FixedBeta(0.3) if name == "fixed" else LearnedBeta(**RULES[name])


class FirstGradients(TrainerCallback):
    """The gradients at each step, before anything is clipped."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        named = kwargs["model"].named_parameters()
        self.steps.append({name: p.grad.clone() for name, p in named if p.grad is not None})


def gradients(folder: Path, name: str, data: Dataset, batch: int, accumulate: int, **settings: Any) -> Any:
    seen = FirstGradients()
    trainer = DPOTrainer(
        tiny.qwen2(),
        tiny.qwen2(1),
        tiny.arguments(
            folder,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulate,
            max_steps=-1,
            num_train_epochs=1,
            max_grad_norm=0.0,
            **settings,
        ),
        train_dataset=data,
        processing_class=tiny.tokenizer(),
        callbacks=[seen],
        beta=rule_named(name),
    )
    if isinstance(trainer.rule, LearnedBeta):
        tiny.scattered(trainer.rule.head.net, 0.2)
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    return seen.steps, lines


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).abs().max() <= tolerance * gradient.abs().max() + 1e-7, name


@pytest.mark.parametrize(
    ("name", "forward"),
    [*((name, "shared") for name in ("fixed", *RULES)), ("fixed", "separate"), ("coupled", "separate")],
)
def test_eight_pairs_give_one_loss_and_gradient_however_they_are_accumulated(
    name: str, forward: str, tmp_path: Path
) -> None:
    data = tiny.pairs(8)
    (whole,), (line,) = gradients(tmp_path / "8x1", name, data, 8, 1, forward=forward)
    # 3x3 ends in a batch that is shorter than the others.
    for batch, accumulate in ((4, 2), (1, 8), (3, 3)):
        folder = tmp_path / f"{batch}x{accumulate}"
        (cut,), (cut_line,) = gradients(folder, name, data, batch, accumulate, forward=forward)
        assert_same(cut, whole)
        for metric in ("loss", "rewards/margins", "beta/mean", "beta/std", "margins/nats"):
            assert cut_line[metric] == pytest.approx(line[metric], rel=1e-5, abs=1e-6), metric


@pytest.mark.parametrize("forward", ["shared", "separate"])
def test_a_short_last_window_is_weighed_by_its_own_pairs(forward: str, tmp_path: Path) -> None:
    data = tiny.pairs(10)
    settings = {"learning_rate": 1e-12, "train_sampling_strategy": "sequential", "forward": forward}
    (_, wide), _ = gradients(tmp_path / "8x1", "fixed", data, 8, 1, **settings)
    (_, cut), _ = gradients(tmp_path / "4x2", "fixed", data, 4, 2, **settings)
    assert_same(cut, wide)


def rows_reversed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    count = batch["prompt_mask"].shape[0]
    order = list(range(count))[::-1]
    both = order + [count + i for i in order]
    return {name: value[both if value.shape[0] == 2 * count else order] for name, value in batch.items()}


def padded(batch: dict[str, Tensor], extra: int) -> dict[str, Tensor]:
    """More padding, filled with a token id that means something."""
    return {
        name: torch.nn.functional.pad(value, (0, extra), value=7 if name == "input_ids" else 0)
        if value.ndim == 2
        else value
        for name, value in batch.items()
    }


@pytest.mark.parametrize("name", ["fixed", *RULES])
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_packing_order_and_company_change_no_pair(family: str, name: str) -> None:
    rule = rule_named(name)
    rule.build(tiny.HIDDEN, seed=0)
    tiny.scattered(rule, 0.2)
    model = PreferenceModel(tiny.POLICIES[family](), rule)
    columns = {name: value for name, value in tiny.scored_batch(5, tiny.POLICIES[family](1)).items() if "ref" in name}
    records = [
        record | {column: float(values[i]) for column, values in columns.items()}
        for i, record in enumerate(tiny.records(5))
    ]
    together = model(**PackedCollator()(records))
    reordered = model(**PackedCollator()(records[::-1]))
    for key, values in together.items():
        torch.testing.assert_close(reordered[key].flip(0), values, rtol=1e-4, atol=1e-5)
        for i in range(5):
            alone = model(**PackedCollator()(records[i : i + 1]))
            torch.testing.assert_close(alone[key], values[i : i + 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fixed", *RULES])
@pytest.mark.parametrize("family", tiny.POLICIES)
def test_padding_order_and_company_change_no_pair(family: str, name: str) -> None:
    rule = rule_named(name)
    rule.build(tiny.HIDDEN, seed=0)
    tiny.scattered(rule, 0.2)
    model = PreferenceModel(tiny.POLICIES[family](), rule)
    batch = tiny.scored_batch(5, tiny.POLICIES[family](1))
    together = model(**batch)
    reordered = model(**rows_reversed(batch))
    longer = model(**padded(batch, 3))
    for key, values in together.items():
        torch.testing.assert_close(reordered[key].flip(0), values, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(longer[key], values, rtol=1e-4, atol=1e-5)
        for i in range(5):
            rows = {n: v[[i, 5 + i]] if v.shape[0] == 10 else v[i : i + 1] for n, v in batch.items()}
            torch.testing.assert_close(model(**rows)[key], values[i : i + 1], rtol=1e-4, atol=1e-5)
