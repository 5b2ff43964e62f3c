"""The readable world as something that methods are compared in: a small language model, and gold by a program.

Every run starts from the same reference and is scored on the same prompts; a seed draws the pairs, their order and the
head. Gold and KL are estimated from answers that the policy samples, with the same random numbers for every policy.
"""

import math
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.trainer_callback import PrinterCallback

from betahead.compare.sequence_methods import METHODS, rule_of
from betahead.compare.sequence_reference import fitted_reference
from betahead.data.formats import Pair
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import tokenize_pair
from betahead.errors import ConfigError
from betahead.evaluate.generate import sample_answers
from betahead.evaluate.kl import scored_answers
from betahead.runs.quiet import quieted
from betahead.train.arguments import DPOConfig
from betahead.train.guards import StopWhenNotFinite
from betahead.train.trainer import DPOTrainer
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.outcome import Outcome, WorldMethod
from betahead.worlds.small_model import SmallModelSpec

# More than the split has: drawn without repeats, all of them come.
_ALL = 40_000


@dataclass(frozen=True, kw_only=True)
class SequenceSize:
    """How large the world is.

    Args:
        spec: of the reference, at most a million parameters by default.
        documents: that it is fitted on.
        pairs: of a run, one pass.
        prompts: that policies are scored on.
        samples: answers to each.
        max_new_tokens: longest answer.
        checkpoints: shares of training, 0 first and 1 last.
    """

    spec: SmallModelSpec = field(default_factory=SmallModelSpec)
    documents: int = 20_000
    pairs: int = 960
    prompts: int = 64
    samples: int = 2
    max_new_tokens: int = 48
    checkpoints: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Seen:
    """What one policy does on the prompts."""

    reward: Float[np.ndarray, "prompts samples"]
    kl: Float[np.ndarray, "prompts samples"]


class SequenceWorld:
    """See the module.

    Args:
        name: of the world.
        size: how large.
        references: folder of fitted references; None is the user's cache.
    """

    def __init__(self, name: str, size: SequenceSize | None = None, references: Path | None = None) -> None:
        if name != "grammar":
            raise ConfigError(f"`world` must be grammar, but is {name!r} instead.")
        self.name = name
        self.size = size or SequenceSize()
        self._references = references
        self._world = GrammarWorld()

    def methods(self) -> Mapping[str, WorldMethod]:
        """One β, β(x) by perspective, and its placebo."""
        return METHODS

    def kl_targets(self) -> tuple[float, ...]:
        """1, 2 and 5 nats per answer."""
        return (1.0, 2.0, 5.0)

    def prompt_texts(self, split: Literal["train", "eval", "test"]) -> Collection[str]:
        """The prompts that runs may see in training, and those of the scored splits."""
        count = _ALL if split == "train" else self.size.prompts
        return {prompt.text for prompt in self._world.prompts(count, 0, split)}

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        """Train and score one run after the other."""
        if method not in METHODS:
            raise ConfigError(f"`method` must be one of {', '.join(METHODS)}, but is {method!r} instead.")
        began = time.perf_counter()
        with quieted():
            runs = [[self._one(method, one, seed, split) for seed in seeds] for one in configurations]
        start = self._start(split)
        reward, kl, wins = (
            np.array([[[part(seen, start) for seen in path] for path in of_seed] for of_seed in runs])
            for part in (_reward, _kl, _wins)
        )
        return Outcome(
            reward=reward,
            kl=kl,
            win_rate=wins,
            finite=np.array([[path[-1] is not None for path in of_seed] for of_seed in runs]),
            checkpoints=self.size.checkpoints,
            same_prompts=True,
            log_beta=None,
            seconds=time.perf_counter() - began,
        )

    @cached_property
    def _reference_folder(self) -> Path:
        return fitted_reference(self.size.spec, self.size.documents, 0, self._references)

    @cached_property
    def _reference(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self._reference_folder).eval()

    @cached_property
    def _tokenizer(self) -> Any:
        return AutoTokenizer.from_pretrained(self._reference_folder)

    def _start(self, split: Literal["eval", "test"]) -> _Seen:
        seen = self._starts.get(split)
        if seen is None:
            seen = self._starts[split] = self._look(self._reference, split)
        return seen

    @cached_property
    def _starts(self) -> dict[str, _Seen]:
        return {}

    def _one(
        self, method: str, one: Mapping[str, float], seed: int, split: Literal["eval", "test"]
    ) -> list[_Seen | None]:
        """What a run's policy does at every checkpoint; None from where it diverged."""
        path: list[_Seen | None] = [self._start(split)]
        diverged: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory() as folder:
            args = DPOConfig(
                output_dir=folder,
                per_device_train_batch_size=8,
                num_train_epochs=1,
                learning_rate=one["learning_rate"],
                lr_scheduler_type="constant",
                logging_steps=5,
                save_strategy="no",
                max_length=128,
                use_cpu=True,
                disable_tqdm=True,
                seed=seed % 2**31,
            )
            trainer = DPOTrainer(
                model=AutoModelForCausalLM.from_pretrained(self._reference_folder),
                args=args,
                beta=rule_of(method, one),
                train_dataset=[pair.row for pair in self._world.pairs(self.size.pairs, seed, "train")],
                processing_class=self._tokenizer,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(StopWhenNotFinite(diverged.append))
            trainer.add_callback(
                _AtShares(self.size.checkpoints[1:], lambda: path.append(self._look_at(trainer, split)))
            )
            try:
                trainer.train()
            except ConfigError:
                if not diverged:
                    raise
        return path + [None] * (len(self.size.checkpoints) - len(path))

    def _look_at(self, trainer: DPOTrainer, split: Literal["eval", "test"]) -> _Seen | None:
        policy: Any = trainer.model.policy
        if not all(bool(parameter.isfinite().all()) for parameter in policy.parameters()):
            return None
        return self._look(policy, split)

    def _look(self, policy: Any, split: Literal["eval", "test"]) -> _Seen:
        """Gold and KL of sampled answers; the KL is that of the next-token distributions along them."""
        prompts = self._world.prompts(self.size.prompts, 0, split)
        renderer = PromptRenderer(self._tokenizer)
        ids = [
            tokenize_pair(
                Pair(prompt=one.text, chosen="a", rejected="b", domain="", strength=None, where="prompt"), renderer
            ).prompt_ids
            for one in prompts
        ]
        ends = renderer.end_ids
        answers = sample_answers(
            policy,
            self._tokenizer,
            ids,
            samples=self.size.samples,
            max_new_tokens=self.size.max_new_tokens,
            seed=0,
            eos_token_ids=ends,
            batch_size=64,
        )
        scored = scored_answers(policy, self._reference, ids, answers, eos_token_ids=ends, batch_size=64)
        reward = np.array(
            [
                [
                    self._world.gold_reward(one.text, str(self._tokenizer.decode(answer, skip_special_tokens=True)))
                    for answer in given
                ]
                for one, given in zip(prompts, answers, strict=True)
            ]
        )
        return _Seen(reward=reward, kl=scored.conditional_kl)


class _AtShares(TrainerCallback):
    """Looks at the policy after given shares of training."""

    def __init__(self, shares: Sequence[float], look: Any) -> None:
        self.shares, self.look = list(shares), look

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        while self.shares and state.global_step >= max(1, math.ceil(self.shares[0] * state.max_steps)):
            self.shares.pop(0)
            self.look()


def _reward(seen: _Seen | None, start: _Seen) -> Float[np.ndarray, " prompts"]:
    return np.full(len(start.reward), np.nan) if seen is None else seen.reward.mean(1)


def _kl(seen: _Seen | None, start: _Seen) -> Float[np.ndarray, " prompts"]:
    return np.full(len(start.reward), np.nan) if seen is None else seen.kl.mean(1)


def _wins(seen: _Seen | None, start: _Seen) -> Float[np.ndarray, " prompts"]:
    """The chance to beat an answer of the reference to the same prompt, ties counted half."""
    if seen is None:
        return np.full(len(start.reward), np.nan)
    mine, other = seen.reward[:, :, None], start.reward[:, None, :]
    return ((mine > other) + 0.5 * (mine == other)).mean((1, 2))
