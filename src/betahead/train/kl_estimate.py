"""How far the policy has moved, measured while it is trained, for rules that ask: answers sampled every few steps."""

import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.beta.kl_sampling import KLSampling
from betahead.beta.rule import BetaRule
from betahead.data.templates import PromptRenderer
from betahead.errors import ConfigError
from betahead.evaluate.generate import Prompt, sample_answers
from betahead.evaluate.kl import scored_answers
from betahead.forward.model import Policy
from betahead.reference.frozen import FrozenReference
from betahead.train.arguments import DPOConfig
from betahead.train.calibration import sample_of_prompts

_SPREAD = (DistributedType.FSDP, DistributedType.DEEPSPEED)


class KLEstimates(TrainerCallback):
    """Tells a rule KL(π‖π_ref) in nats per answer, every so many optimizer steps.

    The policy answers training prompts, once each and at temperature 1, the next ones at every estimate; an answer's
    divergence is the sum of those of its next-token distributions. What is sampled follows from seed and step, so that
    a training that was resumed goes on with the same.

    Args:
        asked: how much to sample.
        rule: hears of the estimate.
        policy: samples.
        reference: what the KL is measured to.
        tokenizer: of both.
        records: tokenized training pairs.
        args: settings.
        accelerator: knows the precision and the other processes, each of which samples its share.
    """

    def __init__(
        self,
        asked: KLSampling,
        rule: BetaRule,
        policy: Policy,
        reference: FrozenReference,
        tokenizer: PreTrainedTokenizerBase,
        records: Dataset,
        args: DPOConfig,
        accelerator: Accelerator,
    ) -> None:
        self.asked = asked
        self.rule = rule
        self.policy = policy
        self.reference = reference
        self.tokenizer = tokenizer
        self.records = records
        self.rows = sample_of_prompts(records, len(records), args.seed)
        self.ends = PromptRenderer(tokenizer, args.prompt_template).end_ids
        self.args = args
        self.accelerator = accelerator
        self.estimates = 0
        self.seconds = 0.0
        self.last = 0.0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure, and tell the rule, at every `every`-th step."""
        if state.global_step % self.asked.every:
            return
        began = time.perf_counter()
        self.last = self.measured(state.global_step)
        self.rule.kl_measured(self.last)
        self.estimates += 1
        self.seconds += time.perf_counter() - began

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print what it cost, where the trainer shows its progress."""
        if state.is_world_process_zero and not args.disable_tqdm:
            print(f"budget     {self.line()}")

    def state_dict(self) -> dict[str, Any]:
        """What `line` tells, for a checkpoint."""
        return {"estimates": self.estimates, "seconds": self.seconds, "last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from what `state_dict` gave."""
        self.estimates, self.seconds, self.last = state["estimates"], state["seconds"], state["last"]

    def measured(self, step: int) -> float:
        """The KL after a step, in nats per answer, the same on all ranks."""
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        prompts = self._prompts(step)[rank::ranks]
        nats = self._conditional_kl(prompts, seed=_seed(self.args.seed, step, rank)) if prompts else np.zeros(0)
        sums = torch.tensor([nats.sum(), float(len(nats))], dtype=torch.float64, device=self.args.device)
        total, answers = cast("torch.Tensor", self.accelerator.reduce(sums, reduction="sum")).tolist()
        return total / answers

    def line(self) -> str:
        """What the estimates cost and the last one came to."""
        each = self.seconds / max(self.estimates, 1)
        return (
            f"{self.estimates} KL estimates of {self.asked.prompts} answers took {self.seconds:.1f} s ({each:.2f} s "
            f"each); the last one: {self.last:.3f} nats per answer"
        )

    def _prompts(self, step: int) -> list[Prompt]:
        begin = (step // self.asked.every - 1) * self.asked.prompts
        turn = [self.rows[(begin + place) % len(self.rows)] for place in range(self.asked.prompts)]
        return [self.records[row]["prompt_ids"] for row in turn]

    def _conditional_kl(self, prompts: Sequence[Prompt], *, seed: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
        batch_size = self.args.per_device_eval_batch_size
        with self.accelerator.autocast():
            answers = sample_answers(
                self.policy,
                self.tokenizer,
                prompts,
                samples=1,
                max_new_tokens=self.asked.max_new_tokens,
                seed=seed,
                eos_token_ids=self.ends,
                batch_size=batch_size,
            )
            reference = None if self.reference.adapters_off else self.reference.model
            scored = scored_answers(
                self.policy, reference, prompts, answers, eos_token_ids=self.ends, batch_size=batch_size
            )
        return scored.conditional_kl[:, 0]


def kl_estimates_for(
    rule: BetaRule,
    policy: Policy,
    reference: FrozenReference,
    tokenizer: PreTrainedTokenizerBase,
    records: Dataset | None,
    args: DPOConfig,
    accelerator: Accelerator,
) -> KLEstimates | None:
    """The estimates that the rule asks for, or None for a rule that asks for none or without data.

    Raises:
        ConfigError: when the policy's weights are spread over processes, where it cannot sample.
    """
    asked = rule.kl_sampling
    if asked is None or records is None:
        return None
    if accelerator.distributed_type in _SPREAD:
        raise ConfigError(
            f"`{asked.key}` must be answers where a policy's weights are spread over processes "
            f"({accelerator.distributed_type.value}), because it does not sample on its own there, but is samples "
            "instead."
        )
    return KLEstimates(asked, rule, policy, reference, tokenizer, records, args, accelerator)


def _seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
