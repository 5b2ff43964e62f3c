"""The head's held-out gradient against really stepping with β, or a weight of the head, a little up and down."""

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.optim import SGD, Adam, AdamW, Optimizer
from transformers import TrainerCallback

from betahead.beta.learned import LearnedBeta
from betahead.data.collate import PairCollator
from betahead.forward.separate import separate_forward
from betahead.losses.anchor import sft
from betahead.train.trainer import DPOTrainer
from betahead.types import PairBatch

LEVEL = 0.2


class BeforeTheLastStep(TrainerCallback):
    """What stands between the gradients of the last step and the step."""

    def __init__(self) -> None:
        self.policy: Any = None
        self.state: dict[str, Any] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.head: dict[str, Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == state.max_steps:
            model, optimizer = kwargs["model"], kwargs["optimizer"]
            self.policy = deepcopy(model.policy)
            by_name = {name: optimizer.state.get(p, {}) for name, p in model.policy.named_parameters()}
            self.state = deepcopy(by_name)
            groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
            self.groups = {name: groups[id(p)] for name, p in model.policy.named_parameters()}
            self.head = {name: p.grad.clone() for name, p in model.rule.named_parameters()}


def trained(
    folder: Path,
    steps: int,
    settings: dict[str, Any],
    rule: dict[str, Any],
    learning: dict[str, Any] | None = None,
) -> tuple[DPOTrainer, Any]:
    seen = BeforeTheLastStep()
    trainer = DPOTrainer(
        tiny.in_float64(tiny.qwen2()),
        tiny.in_float64(tiny.qwen2(1)),
        tiny.arguments(
            folder,
            per_device_train_batch_size=6,
            max_steps=steps,
            max_grad_norm=0.0,
            logging_steps=1000,
            train_sampling_strategy="sequential",
            **settings,
        ),
        train_dataset=tiny.pairs(24, prompts=12),
        processing_class=tiny.tokenizer(),
        callbacks=[seen],
        # A head that hardly moves, so that the β of the last step is the one it starts with.
        beta=LearnedBeta(
            initial_beta=LEVEL,
            learning={"kind": "heldout", **(learning or {}), "held_out_share": 0.25, "held_out_pairs": 99},
            learning_rate=1e-12,
            **rule,
        ),
    )
    trainer.rule.double()
    tiny.scattered(trainer.rule, 0.3)
    if learning is not None:
        trainer.rule.mode.log_level.fill_(0.7)
    trainer.train()
    return trainer, seen


def padded(records: list[Any]) -> PairBatch:
    return PairBatch.from_dict(PairCollator(pad_token_id=0)(records))


def margins(policy: Any, batch: PairBatch) -> Tensor:
    logps, _ = separate_forward(policy, batch)
    reference = batch.reference
    assert reference is not None
    return logps.chosen - reference.chosen_logps - logps.rejected + reference.rejected_logps


class Stepping:
    """The held-out loss after a step with these β: a new optimizer with the state of the old one, on a copy."""

    def __init__(
        self, trainer: DPOTrainer, seen: BeforeTheLastStep, steps: int, made: Callable[..., Optimizer]
    ) -> None:
        data, followed = trainer.train_dataset, trainer.held_out.dataset
        assert len(data) % 6 == 0
        at = [(steps - 1) * 6 % len(data) + i for i in range(6)]
        self.train = padded([data[i] for i in at])
        self.followed = padded(followed.to_list())
        self.seen, self.made = seen, made
        self.rate = trainer.args.learning_rate
        self.level = float(trainer.rule.base)
        weights = dict(zip(trainer.model.objective.kinds, trainer.model.objective.weights, strict=True))
        self.weight, self.anchor = weights["sigmoid"], weights.get("sft", 0.0)

    def __call__(self, beta: Tensor) -> float:
        policy = deepcopy(self.seen.policy)
        named = dict(policy.named_parameters())
        decays = {name: group["weight_decay"] for name, group in self.seen.groups.items()}
        optimizer = self.made(
            [{"params": [p], "weight_decay": decays[name]} for name, p in named.items()], lr=self.rate
        )
        for name, p in named.items():
            p.grad = None
            if self.seen.state[name]:
                optimizer.state[p] = deepcopy(self.seen.state[name])
        row = LEVEL / beta * -logsigmoid(beta * margins(policy, self.train))
        chosen = separate_forward(policy, self.train)[0]
        anchored = sft(chosen.chosen, chosen.chosen_tokens) if self.anchor else torch.zeros_like(row)
        (self.weight * row + self.anchor * anchored).mean().backward()
        optimizer.step()
        with torch.no_grad():
            return -logsigmoid(self.level * margins(policy, self.followed)).mean().item()


def brute_force(trainer: DPOTrainer, stepping: Stepping) -> tuple[Tensor, dict[str, Tensor]]:
    """dL/dβ of every pair, carried on to the head by autograd."""
    policy, rule = stepping.seen.policy, trainer.rule
    assert isinstance(rule, LearnedBeta)
    with torch.no_grad():
        _, features = separate_forward(policy, stepping.train, rule.needs)
    beta = rule.explain(features).beta
    assert beta.std() > 0
    slopes = torch.zeros_like(beta)
    for i in range(len(beta)):
        change = torch.zeros_like(beta)
        change[i] = 1e-3 * beta[i].item()
        # Four points: the error of two would be seen at six digits.
        near, far = (stepping(beta.detach() + k * change) - stepping(beta.detach() - k * change) for k in (1, 2))
        slopes[i] = (8.0 * near - far) / (12.0 * change[i])
    named = dict(rule.named_parameters())
    found = torch.autograd.grad(beta, list(named.values()), slopes, materialize_grads=True)
    return slopes, dict(zip(named, found, strict=True))


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        (1, {"form": "banded", "ppl_exponent": 1.0}),
        (3, {"form": "direct", "net": "mlp"}),
        (2, {"form": "banded", "ppl_exponent": "learned", "net": "transformer"}),
    ],
    ids=["banded", "direct", "transformer"],
)
def test_with_sgd_it_is_the_derivative_to_six_digits(steps: int, rule: dict[str, Any], tmp_path: Path) -> None:
    trainer, seen = trained(tmp_path, steps, {"optim": "sgd", "learning_rate": 0.05}, rule)
    _, wanted = brute_force(trainer, Stepping(trainer, seen, steps, SGD))
    scale = max(gradient.abs().max() for gradient in wanted.values())
    assert scale > 1e-6
    for name, gradient in wanted.items():
        assert (seen.head[name] - gradient).abs().max() <= 1e-6 * scale, name


def test_an_anchor_moves_the_step_and_not_the_push_of_the_row(tmp_path: Path) -> None:
    both = {"loss_type": ["sft", "sigmoid"], "loss_weights": [1.5, 0.5]}
    trainer, seen = trained(tmp_path, 1, {"optim": "sgd", "learning_rate": 0.05, **both}, {"form": "direct"})
    _, wanted = brute_force(trainer, Stepping(trainer, seen, 1, SGD))
    scale = max(gradient.abs().max() for gradient in wanted.values())
    assert scale > 1e-6
    for name, gradient in wanted.items():
        assert (seen.head[name] - gradient).abs().max() <= 1e-6 * scale, name


@pytest.mark.parametrize("steps", [2, 6, 20])
@pytest.mark.parametrize(("made", "decay"), [(Adam, 0.0), (AdamW, 0.1)], ids=["adam", "adamw with decay"])
def test_with_adam_it_is_the_derivative_too(made: type[Adam], decay: float, steps: int, tmp_path: Path) -> None:
    settings = {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": decay}
    trainer, seen = trained(tmp_path, steps, settings, {"form": "direct"})
    assert {group["weight_decay"] for group in seen.groups.values()} == {0.0, decay}
    _, wanted = brute_force(trainer, Stepping(trainer, seen, steps, made))
    one = torch.cat([seen.head[name].flatten() for name in wanted])
    other = torch.cat([gradient.flatten() for gradient in wanted.values()])
    assert 1.0 - torch.nn.functional.cosine_similarity(one, other, dim=0) <= 1e-9
    assert (one.norm() / other.norm()).item() == pytest.approx(1.0, abs=1e-6)


def test_on_a_budget_the_row_keeps_its_push_and_the_held_out_loss_has_the_level(tmp_path: Path) -> None:
    still = {"kind": "budget", "target_kl": 5.0, "allocation": "heldout", "kl_from": "answers", "level_rate": 1e-12}
    trainer, seen = trained(tmp_path, 1, {"optim": "sgd", "learning_rate": 0.05}, {"form": "direct"}, still)
    stepping = Stepping(trainer, seen, 1, SGD)
    assert stepping.level == pytest.approx(LEVEL * math.exp(0.7))
    _, wanted = brute_force(trainer, stepping)
    scale = max(gradient.abs().max() for gradient in wanted.values())
    assert scale > 1e-6
    for name, gradient in wanted.items():
        assert (seen.head[name] - gradient).abs().max() <= 1e-6 * scale, name
