"""One training by several roads: runs of every kind that has something to agree on, and what each of them told."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import readings
import tiny
import torch
from datasets import Dataset
from torch import Tensor

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule, Need
from betahead.train.spread import whole_state
from betahead.train.trainer import DPOTrainer

SHOWN = ("loss", "grad_norm", "beta/mean", "beta/std", "rewards/margins", "margins/nats")
STEPS = 4
"""Of eight pairs each."""

LEARNED: dict[str, dict[str, Any]] = {
    "joint": {"net": "mlp", "ppl_exponent": "learned", "prior_weight": 3.0},
    "perspective": {"net": "transformer", "form": "direct", "learning": "perspective"},
    "coupled": {"couple": True},
    "budget": {"learning": {"kind": "budget", "target_kl": 0.3, "kl_from": "answers", "allocation": "joint"}},
    "reference's perplexity": {"ppl_from": "reference"},
}
LOSSES: dict[str, dict[str, Any]] = {
    "bco": {"loss_type": "bco"},
    "cal_dpo": {"loss_type": "cal_dpo"},
    "dr_dpo": {"loss_type": "dr_dpo"},
    "aot": {"loss_type": "aot"},
    "aot_unpaired": {"loss_type": "aot_unpaired"},
    "sft beside": {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
}
LIVE: dict[str, Any] = {"precompute_ref_log_probs": False}
KINDS = (*LEARNED, *readings.RULES, "epsilon_dpo", *LOSSES)


def rule_of(kind: str) -> BetaRule:
    """A new rule of this kind of run."""
    if kind in LEARNED:
        return LearnedBeta(**LEARNED[kind], learning_rate=0.05)
    if kind in readings.RULES:
        return readings.lively(kind)
    return PerturbedBeta(0.0625, 0.1) if kind == "epsilon_dpo" else FixedBeta(0.3)


def rows(count: int = 8 * STEPS) -> Dataset:
    """Pairs with the column that a rule may read."""
    made = tiny.pairs(count, prompts=count)
    return made.add_column("reward_margin", [0.3 * (i % 5) - 0.5 for i in range(len(made))])


def trainer_of(folder: Path, kind: str, *, batch: int = 8, policy: Any = None, **settings: Any) -> DPOTrainer:
    """Four steps of eight pairs in float32, from a policy that is not its reference."""
    rule = rule_of(kind)
    settings = LOSSES.get(kind, {}) | (LIVE if kind == "epsilon_dpo" else {}) | settings
    parts = {name: settings.pop(name) for name in ("peft_config",) if name in settings}
    data = settings.pop("train_dataset", None)
    reads_it = rule.margin_of == "reference" or Need.PAIR in rule.needs
    plain = {"max_steps": STEPS, "optim": "sgd", "learning_rate": 0.05, "ddp_find_unused_parameters": False}
    made = DPOTrainer(
        tiny.qwen2() if policy is None else policy,
        tiny.qwen2(1) if reads_it and not parts else None,
        tiny.arguments(folder, per_device_train_batch_size=batch, **(plain | settings)),
        train_dataset=rows() if data is None else data,
        processing_class=tiny.tokenizer(),
        beta=rule,
        **parts,
    )
    tiny.scattered(made.rule, 0.2)
    return made


def told(made: DPOTrainer) -> dict[str, Tensor]:
    """What a training that has ended wrote step by step, and the weights that it ended with."""
    lines = [line for line in made.state.log_history if "loss" in line]
    assert len(lines) == STEPS
    columns = {name: torch.tensor([line[name] for line in lines], dtype=torch.float64) for name in SHOWN}
    return {f"line/{name}": column for name, column in columns.items()} | whole_state(made.model)


def trained(folder: str, kinds: Iterable[str], batch: int, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the trainings of these kinds told, each by the name of its kind; the task of a rank."""
    found: dict[str, Tensor] = {}
    for kind in kinds:
        made = trainer_of(Path(folder) / kind, kind, batch=batch, **settings)
        made.train()
        found |= {f"{kind}|{name}": value for name, value in told(made).items()}
    return found


def of_kind(found: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """What one of them told."""
    return {name.partition("|")[2]: value for name, value in found.items() if name.partition("|")[0] == kind}


def residuals(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """By column, and for all weights together: the largest difference, and the mean of all, signs kept.

    Columns whose values are above 1 are divided by the largest of them.
    """
    assert found.keys() == wanted.keys()
    columns = {
        name: (found[name].double() - value.double()) / value.abs().max().clamp(min=1.0)
        for name, value in wanted.items()
        if name[:5] == "line/"
    }
    moved = [(found[name].double() - value.double()).flatten() for name, value in wanted.items() if name[:5] != "line/"]
    columns["weights"] = torch.cat(moved)
    return {name: (float(of.abs().max()), float(of.mean())) for name, of in columns.items()}
