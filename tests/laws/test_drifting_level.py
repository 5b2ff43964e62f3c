"""The level of ε-DPO goes the same way on two ranks as on one, in one pass as in many, resumed as uninterrupted."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig
from together import Ranks
from torch import Tensor

from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.train.trainer import DPOTrainer

STEPS = 4


def trainer(folder: Path, *, batch: int = 8, model: Any = None, **settings: Any) -> DPOTrainer:
    """Steps of eight pairs in float64, from a policy that is not its reference."""
    parts = {name: settings.pop(name) for name in ("peft_config",) if name in settings}
    made = DPOTrainer(
        tiny.in_float64(tiny.qwen2()) if model is None else model,
        None if parts else tiny.in_float64(tiny.qwen2(1)),
        tiny.arguments(
            folder,
            per_device_train_batch_size=batch,
            max_steps=STEPS,
            optim="sgd",
            learning_rate=0.05,
            precompute_ref_log_probs=False,
            train_sampling_strategy="sequential",
            ddp_find_unused_parameters=False,
            **settings,
        ),
        train_dataset=tiny.pairs(32),
        eval_dataset=tiny.pairs(4, seed=1),
        processing_class=tiny.tokenizer(),
        beta=PerturbedBeta(0.0625, 0.1),
        **parts,
    )
    made.rule.double()
    return made


def levels(made: DPOTrainer) -> list[float]:
    return [line["beta/base"] for line in made.state.log_history if "loss" in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The levels of one rank, one pass a step."""
    made = trainer(tmp_path_factory.mktemp("alone"))
    made.train()
    found = levels(made)
    assert len(found) == STEPS and len(set(found)) >= 3
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 2, "gradient_accumulation_steps": 4},
        {"max_batch_tokens": 20},
        {"forward": "separate"},
        {"eval_strategy": "steps", "eval_steps": 1},
    ],
    ids=str,
)
def test_passes_roads_and_evaluations_move_nothing(
    settings: dict[str, Any], alone: list[float], tmp_path: Path
) -> None:
    made = trainer(tmp_path, **settings)
    made.train()
    assert levels(made) == pytest.approx(alone, rel=1e-9)


def test_a_resumed_run_goes_on_from_its_level(alone: list[float], tmp_path: Path) -> None:
    first = trainer(tmp_path, save_strategy="steps", save_steps=2)
    first.train()
    again = trainer(tmp_path)
    assert float(again.rule.state_dict()["base"]) == 0.0625
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert levels(again) == pytest.approx(alone, rel=1e-6)
    assert float(again.rule.state_dict()["base"]) == pytest.approx(alone[-1], rel=1e-6)


@tiny.OLD_NAMES
def test_with_an_adapter_the_reference_is_the_model_without_it(tmp_path: Path) -> None:
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    made = trainer(tmp_path, model=tiny.qwen2(), peft_config=adapter)
    made.train()
    found = levels(made)
    # In the first step policy and reference are the same.
    assert found[0] == 0.0625
    assert found[-1] != 0.0625


def of_two(folder: str) -> dict[str, Tensor]:
    """The levels of a rank."""
    made = trainer(Path(folder), batch=2, gradient_accumulation_steps=2)
    made.train()
    return {"base": made.rule.state_dict()["base"], "levels": torch.tensor(levels(made), dtype=torch.float64)}


@pytest.mark.slow
def test_two_ranks_have_the_level_of_one(alone: list[float], two_ranks: Ranks, tmp_path: Path) -> None:
    ranks = two_ranks.run(of_two, str(tmp_path))
    assert ranks[0]["levels"].tolist() == pytest.approx(alone, rel=1e-9)
    for rank in ranks:
        assert float(rank["base"]) == pytest.approx(alone[-1], rel=1e-9)
