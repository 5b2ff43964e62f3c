"""Both libraries' trainers on the same batches, with a clock on the step and on what happens once."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback

from bench.arms import Arm
from bench.batches import Row
from bench.carrier import carrier_tokenizer, text_of

BETA = 0.1


class UnavailableError(Exception):
    """The installed package does not have what the arm asks for."""


class StepClock(TrainerCallback):
    """The moments at which optimizer steps ended; a difference of two is one full step, data loading included."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
        """Note the moment, once the device is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.moments.append(time.perf_counter())


@dataclasses.dataclass
class OneOff:
    """What was recorded beside the steps."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    losses: list[float] = dataclasses.field(default_factory=list)


def recording(trainer: type, record: OneOff, timed: Mapping[str, str]) -> type:
    """A subclass that notes the first step's loss, and the seconds of the methods in `timed` under their names there.

    Args:
        trainer: a subclass of `transformers.Trainer`.
        record: where to.
        timed: from method to name in the record.
    """

    def with_clock(method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def run(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            result = method(*arguments, **keywords)
            record.seconds[name] = record.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return run

    def training_step(self: Any, *arguments: Any, **keywords: Any) -> Any:
        loss = trainer.training_step(self, *arguments, **keywords)
        if not record.losses:
            record.losses.append(float(loss.detach()))
        return loss

    missing = [method for method in timed if not hasattr(trainer, method)]
    assert not missing, f"{trainer.__name__} has no {missing}: what they do is no longer timed"
    methods = {method: with_clock(getattr(trainer, method), name) for method, name in timed.items()}
    return type(f"Recorded{trainer.__name__}", (trainer,), {**methods, "training_step": training_step})


def shared_settings(arm: Arm, folder: Path, pairs_per_step: int) -> dict[str, Any]:
    """Training arguments that both libraries know and every arm has; the rows come in their order."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": pairs_per_step,
        "per_device_eval_batch_size": pairs_per_step,
        "num_train_epochs": arm.passes,
        "train_sampling_strategy": "sequential",
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "logging_steps": 10,
        "save_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
        "use_cpu": True,
        "seed": 0,
        "max_length": None,
        "bf16": False,
    }


def causal_model(model_folder: Path) -> Any:
    """The geometry's model in float32."""
    return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)


def trl_trainer(
    arm: Arm, rows: Sequence[Row], model_folder: Path, folder: Path, pairs_per_step: int, record: OneOff
) -> Any:
    """TRL's trainer. It takes texts, not ids, so the ids reach it as words that its tokenizer turns back into them."""
    import trl

    policy = causal_model(model_folder)
    texts = Dataset.from_list(
        [
            {
                "prompt": text_of(row["prompt_ids"]),
                "chosen": " " + text_of(row["chosen_ids"]),
                "rejected": " " + text_of(row["rejected_ids"]),
            }
            for row in rows
        ]
    )
    settings = shared_settings(arm, folder, pairs_per_step) | dict(arm.settings) | {"beta": BETA}
    trainer = recording(trl.DPOTrainer, record, {"_precompute_ref_logps": "reference"})
    return trainer(
        model=policy,
        args=trl.DPOConfig(**settings),
        train_dataset=texts,
        processing_class=carrier_tokenizer(policy.config.vocab_size),
    )


def our_trainer(
    arm: Arm, rows: Sequence[Row], model_folder: Path, folder: Path, pairs_per_step: int, record: OneOff
) -> Any:
    """Our trainer on the ids themselves.

    The prior on the level of a learned β is off, so that every arm's first loss is log 2; it is one number a batch.

    Raises:
        UnavailableError: the installed package has no such road.
    """
    from betahead import DPOConfig, DPOTrainer, LearnedBeta

    known = {field.name for field in dataclasses.fields(DPOConfig)}
    settings = shared_settings(arm, folder, pairs_per_step) | dict(arm.settings)
    if "forward" in known:
        settings["forward"] = arm.forward
    elif arm.forward != "separate":
        raise UnavailableError(f"this version of betahead has no forward={arm.forward!r}")
    beta = BETA if arm.ppl_from is None else LearnedBeta(net="mlp", ppl_from=arm.ppl_from, prior_weight=0.0)
    policy = causal_model(model_folder)
    trainer = recording(DPOTrainer, record, {"_with_reference": "reference", "_calibrate": "calibration"})
    return trainer(
        model=policy,
        args=DPOConfig(**settings),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=carrier_tokenizer(policy.config.vocab_size),
        beta=beta,
    )


def trainer_for(
    arm: Arm, rows: Sequence[Row], model_folder: Path, folder: Path, pairs_per_step: int, record: OneOff
) -> Any:
    """The arm's trainer, ready to train, its reference scored if that is to be done beforehand."""
    make = trl_trainer if arm.library == "trl" else our_trainer
    return make(arm, rows, model_folder, folder, pairs_per_step, record)
