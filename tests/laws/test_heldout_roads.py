"""Held-out learning gives one gradient to the head however a step is cut or spread, and changes nothing else."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig
from together import Ranks
from torch import Tensor

from betahead.beta.controls import PermutedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.train.heldout import HeldOutGradient
from betahead.train.parts import tokenized
from betahead.train.trainer import DPOTrainer

Tensors = dict[str, Tensor]


def rule_of(pairs: int = 6, every: int = 1, **settings: Any) -> LearnedBeta:
    asked = {"kind": "heldout", "held_out_share": 0.25, "held_out_pairs": pairs, "held_out_every": every}
    return LearnedBeta(learning=asked, **settings)


class Watched:
    """What every estimate left behind: gradients of the head, and whether anything else was touched."""

    def __init__(self, trainer: DPOTrainer) -> None:
        self.head: list[Tensors] = []
        self.touched: list[str] = []
        followed = trainer.held_out
        assert followed is not None
        inner = followed.set_gradient

        def set_gradient(*arguments: Any, **keywords: Any) -> None:
            before = self._policy(trainer)
            inner(*arguments, **keywords)
            after = self._policy(trainer)
            assert before.keys() == after.keys()
            self.touched += [name for name, value in before.items() if not torch.equal(value, after[name])]
            self.head.append(
                {name: p.grad.clone() for name, p in trainer.rule.named_parameters() if p.grad is not None}
            )

        followed.set_gradient = set_gradient

    @staticmethod
    def _policy(trainer: DPOTrainer) -> Tensors:
        """Weights, modes and gradients of the policy, and the weights of the head."""
        found: Tensors = {f"head/{name}": p.detach().clone() for name, p in trainer.rule.named_parameters()}
        for name, p in trainer.model.policy.named_parameters():
            found[f"weight/{name}"] = p.detach().clone()
            if p.grad is not None:
                found[f"gradient/{name}"] = p.grad.clone()
        for name, module in trainer.model.named_modules():
            found[f"mode/{name}"] = torch.tensor(module.training)
        return found


def trainer_of(
    folder: Path, rule: BetaRule, *, adapter: bool = False, float64: bool = True, **settings: Any
) -> DPOTrainer:
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.1)
    policy, reference = tiny.qwen2(), tiny.qwen2(1)
    args = tiny.arguments(
        folder,
        **{
            "per_device_train_batch_size": 8,
            "max_steps": 3,
            "optim": "sgd",
            "learning_rate": 0.05,
            "max_grad_norm": 0.0,
            "train_sampling_strategy": "sequential",
            "ddp_find_unused_parameters": False,
            **settings,
        },
    )
    made = DPOTrainer(
        tiny.in_float64(policy) if float64 else policy,
        None if adapter else tiny.in_float64(reference) if float64 else reference,
        args,
        train_dataset=tokenized(tiny.pairs(32, prompts=16), tiny.tokenizer(), args, rule),
        processing_class=tiny.tokenizer(),
        peft_config=lora if adapter else None,
        beta=rule,
    )
    if float64:
        made.rule.double()
    tiny.scattered(made.rule, 0.2)
    return made


def estimates(folder: Path, rule: BetaRule | None = None, **settings: Any) -> tuple[list[Tensors], DPOTrainer]:
    trainer = trainer_of(folder, rule or rule_of(), **settings)
    watched = Watched(trainer)
    trainer.train()
    assert watched.touched == []
    return watched.head, trainer


def assert_same(found: list[Tensors], wanted: list[Tensors], tolerance: float = 1e-7) -> None:
    """What may differ is the rounding of a log-probability over the perturbation, 8e-10, in a sum that cancels."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        scale = max(value.abs().max() for value in other.values())
        assert scale > 1e-7
        for name, value in other.items():
            assert (one[name] - value).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, id="4x2"),
        pytest.param(
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}, id="1x8", marks=pytest.mark.slow
        ),
        pytest.param({"max_batch_tokens": 40}, id="passes"),
        pytest.param({"loss_weights": [2.0], "learning_rate": 0.025}, id="a heavier loss and a smaller step"),
        pytest.param({"ld_alpha": 1.0}, id="no answer cut", marks=pytest.mark.slow),
        pytest.param({"forward": "separate"}, id="separate", marks=pytest.mark.slow),
        pytest.param({"gradient_checkpointing": True}, id="recomputed", marks=pytest.mark.slow),
        pytest.param({"precompute_ref_log_probs": False}, id="live reference", marks=pytest.mark.slow),
    ],
)
@tiny.OLD_NAMES
def test_the_head_gets_one_gradient_however_a_step_is_cut(settings: dict[str, Any], tmp_path: Path) -> None:
    wanted, _ = estimates(tmp_path / "whole")
    found, _ = estimates(tmp_path / "cut", **settings)
    # A live reference is not rounded to float32, as columns of a data set are.
    assert_same(found, wanted, 1e-5 if "precompute_ref_log_probs" in settings else 1e-7)


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
def test_weights_and_gradients_of_the_policy_are_the_same_bits_afterwards(
    adapter: bool, optim: str, tmp_path: Path
) -> None:
    settings = {"optim": optim, "learning_rate": 1e-2, "max_grad_norm": 0.5}
    head, trainer = estimates(tmp_path, adapter=adapter, float64=False, **settings)
    # At the first step policy and reference are one under an adapter, and at margins of 0 β has no say.
    for gradients in head[1:]:
        assert all(bool(value.isfinite().all()) for value in gradients.values())
        assert max(value.abs().max() for value in gradients.values()) > 0
    lines = [line["heldout/loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 3
    assert all(0.0 < loss < 5.0 for loss in lines)


def test_float32_is_close_to_float64(tmp_path: Path) -> None:
    wanted, _ = estimates(tmp_path / "float64", max_steps=1)
    found, _ = estimates(tmp_path / "float32", max_steps=1, float64=False)
    one, other = (torch.cat([value.double().flatten() for value in side[0].values()]) for side in (found, wanted))
    assert (one - other).norm() <= 0.02 * other.norm()


def test_between_estimates_the_head_stands_still(tmp_path: Path) -> None:
    rule = rule_of(every=2, learning_rate=0.1)
    trainer = trainer_of(tmp_path, rule, max_steps=4, optim="adamw_torch", learning_rate=1e-3)
    seen: list[Tensors] = []
    inner = trainer.held_out.set_gradient

    def set_gradient(*arguments: Any, **keywords: Any) -> None:
        seen.append({name: p.detach().clone() for name, p in rule.named_parameters()})
        inner(*arguments, **keywords)

    trainer.held_out.set_gradient = set_gradient
    trainer.train()
    seen.append(dict(rule.named_parameters()))
    moved = [any(not torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(seen)]
    assert moved == [True, False, True, False]
    assert trainer.held_out.cost.estimates == 2


def test_a_head_that_stands_still_trains_the_policy_of_one_beta_on_the_pairs_that_are_left(tmp_path: Path) -> None:
    held = rule_of(ppl_exponent=0.0, learning_rate=1e-30, initial_beta=0.3)
    one = trainer_of(tmp_path / "held", held, float64=False)
    with torch.no_grad():
        for parameter in held.parameters():
            parameter.zero_()
    one.train()
    other = DPOTrainer(
        tiny.qwen2(),
        tiny.qwen2(1),
        one.args,
        train_dataset=one.train_dataset,
        processing_class=tiny.tokenizer(),
        beta=FixedBeta(0.3),
    )
    other.train()
    for name, weight in other.model.policy.named_parameters():
        torch.testing.assert_close(one.model.policy.get_parameter(name), weight, rtol=0.0, atol=0.0)


def test_a_resumed_training_follows_the_pairs_of_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = {"optim": "adamw_torch", "learning_rate": 1e-3, "max_steps": 4, "float64": False}
    whole, _ = estimates(tmp_path / "whole", rule_of(learning_rate=0.1), **settings)
    saving = {"save_strategy": "steps", "save_steps": 2}
    estimates(tmp_path / "cut", rule_of(learning_rate=0.1), **{**settings, **saving, "max_steps": 2})
    resumed = trainer_of(tmp_path / "cut", rule_of(learning_rate=0.1), **settings)
    watched = Watched(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert_same(watched.head, whole[2:], 1e-5)


def test_the_rule_inside_of_a_control_gets_its_own_gradient(tmp_path: Path) -> None:
    wanted, _ = estimates(tmp_path / "alone", rule_of(learning_rate=1e-12), max_steps=1)
    found, _ = estimates(tmp_path / "control", PermutedBeta(rule_of(learning_rate=1e-12)), max_steps=1)
    named = {name.removeprefix("of."): value for name, value in found[0].items()}
    assert named.keys() == wanted[0].keys()
    # Its margins and β are the same; where the step leads is not.
    one, other = (torch.cat([side[name].flatten() for name in wanted[0]]) for side in (named, wanted[0]))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.5
    assert not torch.equal(one, other)


def one_of_two(folder: str, pairs: int) -> Tensors:
    """The gradients of the head on a rank."""
    head, trainer = estimates(Path(folder), rule_of(pairs), per_device_train_batch_size=4)
    assert trainer.accelerator.num_processes == 2
    found = {f"{step}/{name}": value for step, one in enumerate(head) for name, value in one.items()}
    lines = [line["heldout/loss"] for line in trainer.state.log_history if "loss" in line]
    return found | {"lines": torch.tensor(lines, dtype=torch.float64)}


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [6, 1], ids=["six pairs", "a rank without a pair"])
def test_two_ranks_have_the_gradient_of_one(pairs: int, two_ranks: Ranks, tmp_path: Path) -> None:
    wanted, alone = estimates(tmp_path / "one", rule_of(pairs))
    lines = [line["heldout/loss"] for line in alone.state.log_history if "loss" in line]
    for rank, found in enumerate(two_ranks.run(one_of_two, str(tmp_path), pairs)):
        heads = [{name: found[f"{step}/{name}"] for name in one} for step, one in enumerate(wanted)]
        assert_same(heads, wanted)
        assert rank == 1 or found["lines"].tolist() == pytest.approx(lines, rel=1e-9)


def test_what_it_costs_is_said(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, rule_of(pairs=4, every=2), max_steps=1)
    followed = trainer.held_out
    assert isinstance(followed, HeldOutGradient)
    assert followed.cost.line() == (
        "β follows 8 pairs of 4 training prompts that are held out for it; every 2 steps a forward and backward "
        "pass over 4 of them and two forward passes over the step's own pairs, about 1.6 times the work, and two more "
        "copies of the trained weights"
    )
    trainer.train()
    spent = followed.cost.measured(10.0)
    assert spent["estimates"] == 1
    assert 0.0 < spent["seconds"] < 10.0
    assert spent["times_slower"] == pytest.approx(10.0 / (10.0 - spent["seconds"]))
