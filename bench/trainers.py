"""Both libraries' trainers on the same batches, with a clock on the step and on what happens once."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from bench.arms import Arm
from bench.batches import Row
from bench.carrier import carrier_tokenizer, text_of
from bench.rules import BETA, rule_of


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What a trainer is made for.

    Args:
        arm: how to train.
        rows: ids, in the order of training.
        policy: the model.
        reference: a second model where one is to run live and the library cannot load it itself.
        folder: for whatever the library writes.
        pairs_per_step: pairs of a batch.
        peft_config: an adapter to train.
        changes: training arguments that differ from `shared_settings`.
    """

    arm: Arm
    rows: Sequence[Row]
    policy: Any
    reference: Any = None
    folder: Path
    pairs_per_step: int
    peft_config: Any = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """Training arguments that both libraries know, then the arm's own; the rows come in their order."""
        shared = {
            "output_dir": str(self.folder),
            "per_device_train_batch_size": self.pairs_per_step,
            "per_device_eval_batch_size": self.pairs_per_step,
            "num_train_epochs": self.arm.passes,
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
        return shared | dict(self.changes) | dict(self.arm.settings)


def trl_trainer(job: Job, record: OneOff) -> Any:
    """TRL's trainer. It takes texts, not ids, so the ids reach it as words that its tokenizer turns back into them."""
    import trl

    texts = Dataset.from_list(
        [
            {
                "prompt": text_of(row["prompt_ids"]),
                "chosen": " " + text_of(row["chosen_ids"]),
                "rejected": " " + text_of(row["rejected_ids"]),
            }
            for row in job.rows
        ]
    )
    trainer = recording(trl.DPOTrainer, record, {"_precompute_ref_logps": "reference"})
    return trainer(
        model=job.policy,
        ref_model=job.reference,
        args=trl.DPOConfig(**job.settings, beta=BETA),
        train_dataset=texts,
        processing_class=carrier_tokenizer(job.policy.config.vocab_size),
        peft_config=job.peft_config,
    )


def our_trainer(job: Job, record: OneOff) -> Any:
    """Our trainer on the ids themselves."""
    from betahead import DPOConfig, DPOTrainer

    trainer = recording(DPOTrainer, record, {"_with_reference": "reference"})
    made = trainer(
        model=job.policy,
        args=DPOConfig(**job.settings, forward=job.arm.forward),
        train_dataset=Dataset.from_list(list(job.rows)),
        processing_class=carrier_tokenizer(job.policy.config.vocab_size),
        peft_config=job.peft_config,
        beta=rule_of(job.arm),
    )
    record.seconds["calibration"] = 0.0 if made.calibration is None else made.calibration.seconds
    return made


def trainer_for(job: Job, record: OneOff) -> Any:
    """The arm's trainer, ready to train, its reference scored if that is to be done beforehand."""
    return trl_trainer(job, record) if job.arm.library == "trl" else our_trainer(job, record)
