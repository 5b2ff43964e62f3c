"""Two ranks give the trajectory of one process, each with the whole model or with a part of it."""

from pathlib import Path
from typing import Any

import pytest
import same_numbers
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from same_numbers import KINDS, of_kind, residuals, told, trained, trainer_of
from together import DDP, Ranks, fsdp2
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from betahead.beta.files import load_rule
from betahead.errors import ConfigError

LARGEST, MEAN = 2e-5, 5e-6
"""Of the residuals in float32, over losses, norms, β and margins of a step and over all weights at the end."""
SHORT = ("joint", "beta_dpo", "dr_dpo")
WRAPPERS = {"ddp": DDP, "fsdp2": fsdp2()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What one process tells."""
    folder, known = tmp_path_factory.mktemp("alone"), dict[str, dict[str, Tensor]]()

    def of(kind: str) -> dict[str, Tensor]:
        if kind not in known:
            known[kind] = of_kind(trained(str(folder), [kind], 8, {}), kind)
        return known[kind]

    return of


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("kinds", [SHORT, pytest.param(KINDS, marks=pytest.mark.slow)], ids=["some", "all"])
def test_two_ranks_have_the_trajectory_of_one(
    wrapper: str, kinds: tuple[str, ...], alone: Any, two_ranks: Ranks, tmp_path: Path
) -> None:
    found_on = two_ranks.run(trained, str(tmp_path), kinds, 4, {}, environment=WRAPPERS[wrapper])
    for kind in kinds:
        for found in found_on:
            for name, (largest, mean) in residuals(of_kind(found, kind), alone(kind)).items():
                assert largest <= LARGEST and abs(mean) <= MEAN, (kind, name, largest, mean)


def spread_run(folder: str) -> dict[str, Tensor]:
    """A run under FSDP2 with a checkpoint in the middle, and what this rank held of the model."""
    made = trainer_of(Path(folder), "joint", batch=4, save_strategy="steps", save_steps=2, optim="adamw_torch")
    made.train()
    parameters = dict(made.model.named_parameters())
    assert all(isinstance(parameter, DTensor) for parameter in parameters.values())
    held = sum(parameter.to_local().numel() for parameter in parameters.values())
    head = [name for name in parameters if name.startswith("rule.")]
    made.save_model(str(Path(folder) / "saved"))
    found = told(made)
    return found | {
        "held": torch.tensor(held),
        "all": torch.tensor(sum(parameter.numel() for parameter in parameters.values())),
        "head": torch.tensor(len(head)),
    }


def resumed_run(folder: str) -> dict[str, Tensor]:
    """The same from the checkpoint."""
    made = trainer_of(Path(folder), "joint", batch=4, optim="adamw_torch")
    made.train(resume_from_checkpoint=str(Path(folder) / "checkpoint-2"))
    return told(made)


def test_a_spread_model_is_saved_whole_and_resumed_in_parts(two_ranks: Ranks, tmp_path: Path) -> None:
    first, second = two_ranks.run(spread_run, str(tmp_path), environment=WRAPPERS["fsdp2"])
    assert first["all"] == first["held"] + second["held"] and first["head"] > 0
    assert 0.4 < first["held"] / first["all"] < 0.6
    for folder, step in ((tmp_path / "saved", same_numbers.STEPS), (tmp_path / "checkpoint-2", 2)):
        policy = AutoModelForCausalLM.from_pretrained(folder)
        head = load_rule(folder)
        assert head.kind == "learned"
        if step == same_numbers.STEPS:
            whole = {f"policy.{name}": value for name, value in policy.state_dict().items()}
            whole |= {f"rule.{name}": value for name, value in head.state_dict().items()}
            for name, value in whole.items():
                assert torch.equal(value, first[name]), name
    assert len(load_file(tmp_path / "saved" / "model.safetensors")) < len(policy.state_dict())  # tied weights are one
    for one in two_ranks.run(resumed_run, str(tmp_path), environment=WRAPPERS["fsdp2"]):
        for name, value in one.items():
            assert torch.equal(value, first[name]), name


def adapter_run(folder: str) -> dict[str, Tensor]:
    """An adapter whose reference is the model without it, scored at every step."""
    adapter = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    made = trainer_of(
        Path(folder), "joint", batch=4 if ranks() == 2 else 8, peft_config=adapter, precompute_ref_log_probs=False
    )
    made.train()
    return told(made)


def ranks() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore:`\w*gradient_checkpointing\w*` is deprecated:FutureWarning")
def test_a_spread_adapter_is_held_to_the_model_without_it(two_ranks: Ranks, tmp_path: Path) -> None:
    wanted = adapter_run(str(tmp_path / "one"))
    for found in two_ranks.run(adapter_run, str(tmp_path / "two"), environment=WRAPPERS["fsdp2"]):
        for name, (largest, mean) in residuals(found, wanted).items():
            assert largest <= LARGEST and abs(mean) <= MEAN, (name, largest, mean)


def refusals(folder: str) -> dict[str, Tensor]:
    """What FSDP2 is refused: to evaluate too early, and to train twice."""
    made = trainer_of(Path(folder), "joint", batch=4, max_steps=1)
    with pytest.raises(
        ConfigError, match="`evaluate` must come after `train` has begun under FSDP2, but comes before; set "
    ):
        made.evaluate(same_numbers.rows(4))
    made.train()
    with pytest.raises(
        ConfigError, match="`train` must be called once under FSDP2, but is called again; make another tra"
    ):
        made.train()
    return {}


@pytest.mark.slow
def test_what_would_go_wrong_under_fsdp2_is_refused(two_ranks: Ranks, tmp_path: Path) -> None:
    assert two_ranks.run(refusals, str(tmp_path), environment=WRAPPERS["fsdp2"]) == [{}, {}]


def held_out(folder: str, batch: int) -> dict[str, Tensor]:
    """The loss and the pair metrics of five held-out pairs, of which two ranks cannot have as many."""
    made = trainer_of(Path(folder), "joint", batch=batch, per_device_eval_batch_size=batch // 2)
    measured = made.evaluate(same_numbers.rows(5))
    timed = ("runtime", "per_second", "time")
    return {k: torch.tensor(v, dtype=torch.float64) for k, v in measured.items() if not k.endswith(timed)}


def test_held_out_pairs_count_once_also_where_ranks_have_not_as_many(two_ranks: Ranks, tmp_path: Path) -> None:
    wanted = held_out(str(tmp_path / "one"), 8)
    assert {"eval_loss", "eval_beta/mean", "eval_rewards/accuracies"} <= wanted.keys()
    for found in two_ranks.run(held_out, str(tmp_path / "two"), 4):
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_mixed_precision_is_that_of_ranks_with_whole_models(two_ranks: Ranks, tmp_path: Path) -> None:
    settings = {"bf16": True}
    one, other = (
        of_kind(two_ranks.run(trained, str(tmp_path), ["joint"], 4, settings, environment=environment)[0], "joint")
        for environment in WRAPPERS.values()
    )
    # The first step has the same weights, and would differ by half a nat were scores or losses rounded to bfloat16.
    for name in ("line/loss", "line/beta/mean", "line/margins/nats"):
        torch.testing.assert_close(other[name][0], one[name][0], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(other[name], one[name], rtol=0.02, atol=0.02)
    assert all(
        value.dtype == torch.float32 for name, value in other.items() if name.startswith(("rule.head", "policy"))
    )
