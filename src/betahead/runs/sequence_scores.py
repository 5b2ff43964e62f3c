"""What a policy of the sequence world is worth: its own answers, graded by the world, along the training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from betahead.data.formats import Pair
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import tokenize_pair
from betahead.evaluate.generate import sample_answers
from betahead.evaluate.kl import scored_answers
from betahead.forward.model import PreferenceModel
from betahead.forward.modes import evaluating
from betahead.train.trainer import DPOTrainer
from betahead.types import on_device
from betahead.worlds.world import World, WorldPrompt

_AT_ONCE = 64
# Pairs whose β is looked at after training.
_LOOKED_AT = 256
# Answers of the reference are drawn with a seed that no run has, or a policy that did not move would win exactly half.
_REFERENCE_SEED = 2**31 - 1


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptScores:
    """Means over a prompt's answers.

    Args:
        reward: gold.
        kl: to the reference, nats per answer.
        win_rate: chance to beat an answer of the reference.
        tokens: length, the end token included.
        cut: share without an end token.
    """

    reward: Float[np.ndarray, " prompts"]
    kl: Float[np.ndarray, " prompts"]
    win_rate: Float[np.ndarray, " prompts"]
    tokens: Float[np.ndarray, " prompts"]
    cut: Float[np.ndarray, " prompts"]


class SampledPolicy:
    """How policies are scored on some prompts: by sampling.

    Args:
        world: grades answers.
        prompts: the same for every policy.
        reference: the model whose answers are to be beaten.
        tokenizer: the reference's.
        samples: answers per prompt.
        max_new_tokens: at which an answer is cut.
    """

    def __init__(
        self,
        world: World,
        prompts: Sequence[WorldPrompt],
        reference: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        samples: int,
        max_new_tokens: int,
    ) -> None:
        self.world, self.prompts = world, prompts
        self.reference, self.tokenizer = reference, tokenizer
        self.samples, self.max_new_tokens = samples, max_new_tokens
        self.renderer = PromptRenderer(tokenizer)
        self.prompt_ids = [
            tokenize_pair(
                Pair(prompt=p.text, chosen="a", rejected="b", domain="", where="prompt"), self.renderer
            ).prompt_ids
            for p in prompts
        ]

    @cached_property
    def reference_answers(self) -> list[list[list[int]]]:
        """The reference's answers."""
        return self._answers(cast("nn.Module", self.reference), _REFERENCE_SEED)

    @cached_property
    def reference_gold(self) -> Float[np.ndarray, "prompts samples"]:
        """Gold of the reference's answers."""
        return self._gold(self.reference_answers)

    @cached_property
    def reference_scores(self) -> PromptScores:
        """Those of the reference itself: KL 0, half of the wins."""
        gold = self.reference_gold
        reward = gold.mean(axis=1)
        tokens = [[len(answer) for answer in given] for given in self.reference_answers]
        ends = self.renderer.end_ids
        return PromptScores(
            reward=reward,
            kl=np.zeros_like(reward),
            win_rate=np.full_like(reward, 0.5),
            tokens=np.mean(tokens, axis=1),
            cut=np.mean([[answer[-1] not in ends for answer in given] for given in self.reference_answers], axis=1),
        )

    def scores(self, policy: nn.Module, seed: int) -> PromptScores:
        """The scores of a policy; KL is the mean of the next-token divergences along its own answers."""
        answers = self._answers(policy, seed)
        seen = scored_answers(
            policy,
            cast("nn.Module", self.reference),
            self.prompt_ids,
            answers,
            eos_token_ids=self.renderer.end_ids,
            batch_size=_AT_ONCE,
        )
        gold = self._gold(answers)
        ahead = gold[:, :, None] - self.reference_gold[:, None, :]
        return PromptScores(
            reward=gold.mean(axis=1),
            kl=seen.conditional_kl.mean(axis=1),
            win_rate=((ahead > 0) + 0.5 * (ahead == 0)).mean(axis=(1, 2)),
            tokens=seen.tokens.mean(axis=1),
            cut=seen.cut.mean(axis=1),
        )

    def _answers(self, policy: nn.Module, seed: int) -> list[list[list[int]]]:
        return sample_answers(
            policy,
            self.tokenizer,
            self.prompt_ids,
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            eos_token_ids=self.renderer.end_ids,
            batch_size=_AT_ONCE,
        )

    def _gold(self, answers: Sequence[Sequence[Sequence[int]]]) -> Float[np.ndarray, "prompts samples"]:
        decode = cast("Any", self.tokenizer).decode
        texts = [[str(decode(answer, skip_special_tokens=True)) for answer in given] for given in answers]
        return np.array(
            [[self.world.gold_reward(p.text, t) for t in row] for p, row in zip(self.prompts, texts, strict=True)]
        )


class SampledScores(TrainerCallback):
    """Scores the policy after some steps of its training; once its weights are not finite, training ends.

    Args:
        sampled: how policies are scored.
        steps: after which steps.
        seed: of the samples.
    """

    def __init__(self, sampled: SampledPolicy, steps: Mapping[int, float], *, seed: int) -> None:
        self.sampled, self.steps, self.seed = sampled, steps, seed
        self._scores: dict[int, PromptScores] = {}
        self.finite = True

    @property
    def scores(self) -> list[PromptScores]:
        """One for each step, not a number from where the policy was not finite."""
        gone = np.full(len(self.sampled.prompts), np.nan)
        none = PromptScores(reward=gone, kl=gone, win_rate=gone, tokens=gone, cut=gone)
        return [self._scores.get(step, none) for step in self.steps]

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreferenceModel | None = None,
        **kwargs: Any,
    ) -> None:
        """Sample if this is one of the steps."""
        step = state.global_step
        if step not in self.steps:
            return
        assert model is not None
        policy = cast("nn.Module", model.policy)
        self.finite = all(bool(parameter.isfinite().all()) for parameter in policy.parameters())
        if not self.finite:
            control.should_training_stop = True
            return
        self._scores[step] = self.sampled.scores(policy, self.seed)


def topic_log_beta(trainer: DPOTrainer, topics: Sequence[str]) -> Float[np.ndarray, " topics"]:
    """Mean log β per topic over the first training pairs, as the policy gets it; NaN for a topic without any."""
    data = trainer.train_dataset
    data = data.select(range(min(_LOOKED_AT, len(data))))
    found: list[float] = []
    with evaluating(trainer.model), torch.no_grad():
        for first in range(0, len(data), _AT_ONCE):
            batch = trainer.collate([data[row] for row in range(first, min(first + _AT_ONCE, len(data)))])
            batch = trainer.scoring.completed(on_device(batch, trainer.args.device), trained=True)
            found.extend(trainer.model(**batch)["beta"].log().tolist())
    domains = np.array(data["domain"])
    by_topic = [np.array(found)[domains == topic] for topic in topics]
    return np.array([values.mean() if values.size else np.nan for values in by_topic])
