"""Judges that grade one answer at a time: a world's gold program, or a reward model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from betahead.errors import ConfigError, DataError
from betahead.evaluate.matches import Judgement, Match
from betahead.worlds.grammar import GrammarWorld

Grade = Callable[[str, str], float]
"""From a prompt and an answer to how good it is."""


@dataclass(frozen=True, kw_only=True)
class ScoreJudge:
    """The answer with the higher grade wins; equal grades are a tie.

    Args:
        name: of the judge, for a report.
        grade: how good an answer is.
    """

    name: str
    grade: Grade

    def judgements(self, matches: Sequence[Match], progress: Callable[[int], None] = lambda _: None) -> list[Judgement]:
        """One judgement a match.

        Raises:
            DataError: a grade is not a finite number.
        """
        found: list[Judgement] = []
        for match in matches:
            ours, theirs = (self.grade(match.prompt, answer) for answer in (match.answer, match.other))
            if not (math.isfinite(ours) and math.isfinite(theirs)):
                raise DataError(
                    f"`--judge` must give finite grades, but {self.name} gives {ours} and {theirs} to answers to "
                    f"{match.prompt[:60]!r}; use another judge."
                )
            found.append(Judgement(outcome=0.5 * ((ours > theirs) - (ours < theirs) + 1), scores=(ours, theirs)))
            progress(1)
        return found


def gold_judge() -> ScoreJudge:
    """The gold program of the readable world; it refuses a prompt that is none of the world's."""
    world = GrammarWorld()
    return ScoreJudge(name=f"gold program of the world '{world.name}'", grade=world.gold_reward)


def reward_judge(name: str, device: torch.device) -> ScoreJudge:
    """A reward model: a sequence classifier with one label, from a folder or the Hub, without code of its own.

    Raises:
        ConfigError: it cannot be loaded, or has several labels.
    """
    return ScoreJudge(name=f"reward model {name}", grade=RewardModel(name, device))


class RewardModel:
    """What a sequence classifier with one label says of an answer.

    The conversation is rendered with the classifier's chat template, or, where it has none, given as a pair of texts.
    Answers are graded one at a time, so no padding can change a grade.

    Args:
        name: a folder or a name on the Hub.
        device: where it runs.

    Raises:
        ConfigError: it cannot be loaded, or has several labels.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            loaded: Any = AutoModelForSequenceClassification.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # A broken file makes each library trip over something else.
            reason = " ".join(str(error).split()).rstrip(".")[:300]
            raise ConfigError(
                f"`--judge reward:` must name a sequence classifier that can be loaded, but {name} is none ({reason})."
            ) from error
        model, info = loaded
        missing = sorted(info["missing_keys"])
        if missing:  # transformers fills them with noise and a warning
            raise ConfigError(
                f"`--judge reward:` must name a model with all of its weights, but {name} lacks {missing[0]}; name a "
                "model that was trained to give rewards."
            )
        self._model: PreTrainedModel = model
        labels = model.config.num_labels
        if labels != 1:
            raise ConfigError(
                f"`--judge reward:` must name a classifier with 1 label, the reward, but {name} has {labels}."
            )
        cast("Any", model).to(device).eval()
        self._tokenizer = tokenizer
        self._name = name

    @torch.no_grad()
    def __call__(self, prompt: str, answer: str) -> float:
        """The reward of the answer.

        Raises:
            DataError: prompt and answer are longer than the model can read.
        """
        ids = self._ids(prompt, answer)
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None and len(ids) > limit:
            raise DataError(
                f"prompt and answer must have at most the {limit:,} tokens that {self._name} can read, but "
                f"{prompt[:60]!r} with its answer has {len(ids):,}; lower --max-new-tokens or use another judge."
            )
        tensor = torch.tensor([ids], device=self._model.device)
        output: Any = self._model(input_ids=tensor, attention_mask=torch.ones_like(tensor))
        return float(output.logits[0, 0])

    def _ids(self, prompt: str, answer: str) -> list[int]:
        tokenizer: Any = self._tokenizer
        if tokenizer.chat_template is None:
            return list(tokenizer(prompt, answer)["input_ids"])
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        # The template writes the special tokens itself.
        return list(
            tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
        )
