"""Passes of a training step ask the device for nothing: what is shown stays there until a line of the log is due.

One question is asked when all of them are done, whether the step may be taken: `train/guard_finite.py`, with its test.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import readings
import tiny
import torch
from waits import Waits

from betahead.beta.given import GivenBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.losses.objective import objective_of
from betahead.losses.preference import preference_loss
from betahead.losses.reward_shift import RewardShift
from betahead.losses.table import LOSSES
from betahead.train.metrics import PairMetrics
from betahead.train.trainer import DPOTrainer
from betahead.types import PairLogps, PairReading, PromptFeatures, ReferenceScores

# Where a road itself waits. The plain one selects tokens by masks, forward and backward, and cuts prompts by length.
ROADS: dict[str, set[str]] = {"separate": {"forward/separate.py", "forward/prompt.py", "backward"}, "shared": set()}
RULES: dict[str, dict[str, Any]] = {
    "-".join(str(value) for value in (net, *form.values(), *learning.values())): {"net": net, **form, **learning}
    for net, form in zip((*tiny.NETS, "mlp"), tiny.FORMS, strict=True)
    for learning in tiny.LEARNING
}
OTHERS = {rule.kind: rule for rule in METHODS if rule is not LearnedBeta}


def rule_named(name: str) -> BetaRule:
    if name == "given":
        return GivenBeta(0.3, push="even")
    if name in RULES:
        return LearnedBeta(**RULES[name])
    return readings.lively(name) if name in readings.RULES else OTHERS[name]()


def all_features(count: int) -> PromptFeatures:
    read, _ = readings.given(readings.reading(count, dtype=torch.float32), OTHERS["fixed"]())
    return replace(tiny.features(count), columns=read.columns, pair=read.pair)


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda t: t.sum().item(), "_local_scalar_dense"),
        (lambda t: bool(t.sum() > 0), "_local_scalar_dense"),
        (lambda t: t[t > 0], "index"),
        (lambda t: t.index_put((t > 0,), torch.zeros(())), "index_put"),
        (lambda t: t.masked_select(t > 0), "masked_select"),
        (lambda t: t.nonzero(), "nonzero"),
        (lambda t: t.tolist(), "tolist"),
        (lambda t: t.cpu(), "cpu"),
        (lambda t: t.new_tensor(3.0), "new_tensor"),
        (lambda t: torch.tensor(len(t)), "tensor"),
        (lambda t: t.long().repeat_interleave(torch.ones(3).long()), "repeat_interleave"),
    ],
)
def test_the_detector_sees_what_waits(operation: Callable[[Any], Any], name: str) -> None:
    with Waits() as seen:
        operation(torch.arange(3.0))
    assert name in {operation for operation, _ in seen}


def test_the_detector_sees_what_waits_in_a_backward_pass_and_nothing_else() -> None:
    values = torch.arange(3.0, requires_grad=True)
    mask = values > 1
    with Waits() as seen:
        (values * 2.0)[torch.ones(3, dtype=torch.long)].sum().backward()
    assert seen == []
    with Waits() as seen:
        (values * 2.0)[mask].sum().backward()
    assert [place for _, place in seen] == ["elsewhere", "backward"]


def one_step(rule: BetaRule, features: PromptFeatures, margin: torch.Tensor, metrics: PairMetrics) -> None:
    """Everything of a step that is not the language model: rule, loss, backward, metrics, level."""
    margin = margin.detach().requires_grad_()
    shaping = rule(features, margin)
    losses = preference_loss(margin, shaping)
    metrics.add(
        {
            "margin": margin.detach(),
            "beta": shaping.beta.detach(),
            "penalty": shaping.penalty.detach(),
            **dict.fromkeys(("chosen_logps", "rejected_logps", "chosen_rewards", "rejected_rewards"), margin.detach()),
            "log_ppl": features.log_ppl,
            "has_ppl": features.has_ppl.float(),
        }
    )
    (losses.sum() / 5).backward()
    rule.step_taken(lambda t: t)


def test_every_rule_computes_without_waiting() -> None:
    features, margin = all_features(5), torch.linspace(-3, 4, 5)
    for name in (*OTHERS, *RULES):
        rule = rule_named(name)
        rule.build(tiny.HIDDEN, seed=0)
        metrics = PairMetrics(rule.bounds)
        with Waits() as seen:
            one_step(rule, features, margin, metrics)
            one_step(rule, features, margin, metrics)
        assert seen == [], name


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_computes_without_waiting(kind: str) -> None:
    row, values = LOSSES[kind], [torch.linspace(-9, -2, 5).roll(i) for i in range(8)]
    policy = PairLogps(
        chosen=values[0].requires_grad_(),
        rejected=values[1],
        chosen_tokens=torch.arange(5),
        rejected_tokens=torch.arange(5),
        chosen_common=values[2],
        rejected_common=values[3],
    )
    names = ("chosen_logps", "rejected_logps", "chosen_common_logps", "rejected_common_logps")
    reference = ReferenceScores(**dict(zip(names, values[4:], strict=True)))
    objective = objective_of(
        kind,
        label_smoothing=0.1 if row.smooths != "no" else 0.0,
        ld_alpha=None if row.reads == "chosen answer" else 0.3,
        f_divergence_type="alpha_divergence" if row.other_divergences and row.needs_reference else "reverse_kl",
    )
    rule, shift = OTHERS["fixed"](0.3), RewardShift()
    with Waits() as seen:
        shaping = rule(PromptFeatures(pairs=5), values[0])
        losses = objective.losses(policy, reference, shaping, shift=shift.mean if row.has_shift else None)
        shift.see(shaping.beta * policy.chosen, shaping.beta * policy.rejected)
        (losses.sum() / 5).backward()
        shift.step_taken(lambda t: t)
    assert seen == []


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*OTHERS, *RULES])
def test_on_a_cuda_device_no_rule_waits(name: str) -> None:
    rule = rule_named(name)
    rule.build(tiny.HIDDEN, seed=0)
    rule.cuda()

    def there(of: Any) -> Any:
        """The same on the device, inside of mappings and bundles too."""
        if isinstance(of, torch.Tensor):
            return of.cuda()
        if isinstance(of, PairReading):
            return PairReading(**there(vars(of)))
        return {key: there(value) for key, value in of.items()} if isinstance(of, dict) else of

    features, margin = PromptFeatures(**there(vars(all_features(5)))), torch.linspace(-3, 4, 5).cuda()
    metrics = PairMetrics(rule.bounds)
    one_step(rule, features, margin, metrics)  # libraries load
    torch.cuda.set_sync_debug_mode("error")
    try:
        one_step(rule, features, margin, metrics)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def step_of(trainer: DPOTrainer) -> list[tuple[str, str]]:
    """What waits in a step of two micro-batches; the optimizer itself counts its steps on the host."""
    batches = list(trainer.get_train_dataloader())
    with Waits() as seen:
        pairs = trainer._get_num_items_in_batch(batches, trainer.args.device)
        for batch in batches:
            trainer.training_step(trainer.model, batch, pairs)
        trainer._get_grad_norm(trainer.model, trainer._clip_grad_norm(trainer.model))
    return seen


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("name", ["fixed", "linear-banded-1.0-joint-level", "transformer-banded-learned-joint-level"])
def test_a_step_of_the_trainer_waits_nowhere_but_in_its_road(name: str, road: str, tmp_path: Path) -> None:
    trainer = DPOTrainer(
        tiny.qwen2(),
        tiny.qwen2(1),
        tiny.arguments(tmp_path, per_device_train_batch_size=4, max_batch_tokens=40, forward=road),
        train_dataset=tiny.pairs(8),
        processing_class=tiny.tokenizer(),
        beta=rule_named(name),
    )
    seen = step_of(trainer)
    assert {place for _, place in seen} <= ROADS[road], sorted(set(seen))

    with Waits() as read:
        trainer.log({})
    assert [operation for operation, place in read if place.startswith("train/")] == ["tolist"], read
    with Waits() as read:
        trainer.log({})
    assert read == []
