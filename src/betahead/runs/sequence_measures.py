"""What is measured of a language model in the sequence world beside gold and KL, along its training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from datasets import Dataset
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
from betahead.data.lengths import tokens_of_rows
from betahead.data.templates import PromptRenderer
from betahead.data.tokenize import tokenize_pair
from betahead.evaluate.kl import mean_by_prompt, scored_answers
from betahead.forward.modes import evaluating
from betahead.runs.sequence_scores import PromptScores
from betahead.stats.calibration import brier, ece, nll, slope
from betahead.train.trainer import DPOTrainer
from betahead.types import on_device
from betahead.worlds.measures import MEASURES

SEQUENCE_MEASURES: tuple[str, ...] = tuple(MEASURES)

_AT_ONCE = 64

HeldOut = Literal["scored", "dev"]
"""The pairs that measures are of, and those that the one temperature is fitted on; without `dev` it is fitted on the
first."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CorpusTexts:
    """Texts like those that the reference was fitted on: no pair has their prompts."""

    prompts: list[list[int]]
    answers: list[list[list[int]]]


def corpus_texts(documents: Iterable[tuple[str, str]], tokenizer: PreTrainedTokenizerBase) -> CorpusTexts:
    """Prompts with their answers as token ids."""
    renderer = PromptRenderer(tokenizer)
    pairs = [Pair(prompt=p, chosen=a, rejected="b", domain="", where="corpus") for p, a in documents]
    ids = [tokenize_pair(pair, renderer) for pair in pairs]
    return CorpusTexts(prompts=[one.prompt_ids for one in ids], answers=[[one.chosen_ids] for one in ids])


class SequenceMeasures(TrainerCallback):
    """Measures a policy before its training and after some of its steps, as long as it is finite.

    Args:
        trainer: with the held-out pairs as its `eval_dataset`, by `HeldOut`.
        reference: the model that it starts from.
        texts: on which the policy should stay as it was.
        steps: after which steps.
    """

    def __init__(
        self, trainer: DPOTrainer, reference: PreTrainedModel, texts: CorpusTexts, steps: Sequence[int]
    ) -> None:
        self.trainer, self.reference, self.texts = trainer, reference, texts
        self.steps = (0, *steps)
        self._found: dict[int, Mapping[str, float]] = {}

    def along(self, scores: Sequence[PromptScores]) -> Mapping[str, Float[np.ndarray, " checkpoints"]]:
        """Every measure at every checkpoint; nan from where the policy was not finite.

        Args:
            scores: of the policy's own answers at the same checkpoints.
        """
        found = {
            "answer_tokens": [one.tokens.mean() for one in scores],
            "cut": [one.cut.mean() for one in scores],
            "kl_error": [mean_by_prompt(one.kl[:, None]).standard_error or 0.0 for one in scores],
            "trained_tokens": self._tokens(),
        }
        names = [name for name in SEQUENCE_MEASURES if name not in found]
        found |= {name: [self._found.get(step, {}).get(name, np.nan) for step in self.steps] for name in names}
        return {name: np.asarray(found[name], dtype=np.float64) for name in SEQUENCE_MEASURES}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Measure the reference."""
        self._found[0] = self._measured()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure if this is one of the steps and the policy is finite."""
        policy = cast("nn.Module", self.trainer.model.policy)
        if state.global_step in self.steps and all(bool(p.isfinite().all()) for p in policy.parameters()):
            self._found[state.global_step] = self._measured()

    def _tokens(self) -> list[float]:
        """Prompt and answer tokens that were trained on by each checkpoint."""
        pairs = tokens_of_rows(cast("Dataset", self.trainer.train_dataset))
        mean = float(np.mean([pair.prompt + pair.chosen + pair.rejected for pair in pairs]))
        return [step * self.trainer.args.per_device_train_batch_size * mean for step in self.steps]

    def _measured(self) -> Mapping[str, float]:
        policy = cast("nn.Module", self.trainer.model.policy)
        ends = PromptRenderer(cast("PreTrainedTokenizerBase", self.trainer.processing_class)).end_ids
        seen = scored_answers(
            policy,
            cast("nn.Module", self.reference),
            self.texts.prompts,
            self.texts.answers,
            eos_token_ids=ends,
            batch_size=_AT_ONCE,
        )
        return {
            **self._of_pairs(),
            "unrelated_kl": float(seen.conditional_kl.mean()),
            "unrelated_nll_rise": float((seen.reference_logps - seen.policy_logps).mean()),
        }

    def _of_pairs(self) -> Mapping[str, float]:
        scored = self._said("scored")
        dev = self._said("dev") if "dev" in cast("Mapping[str, Dataset]", self.trainer.eval_dataset) else scored
        z = scored["beta"] * scored["margin"]
        best = float(np.nan_to_num(slope(dev["beta"] * dev["margin"]), nan=0.0, posinf=1.0, neginf=0.0))
        cool = max(best, 0.0) * z
        chosen, rejected = (scored[f"{which}_logps"] - scored[f"ref_{which}_logps"] for which in ("chosen", "rejected"))
        return {
            "chosen_shift": float(chosen.mean()),
            "rejected_shift": float(rejected.mean()),
            "both_down": float(((chosen < 0.0) & (rejected < 0.0)).mean()),
            "held_out_accuracy": float((0.5 + 0.5 * np.sign(z)).mean()),
            "held_out_nll": float(nll(z)),
            "held_out_brier": float(brier(z)),
            "held_out_ece": float(ece(z)),
            "held_out_slope": float(slope(z)),
            "tempered_nll": float(nll(cool)),
            "tempered_ece": float(ece(cool)),
        }

    def _said(self, part: HeldOut) -> Mapping[str, Float[np.ndarray, " pairs"]]:
        """Margin, β and log-probabilities of the pairs of a part, under the policy as it is now and the reference."""
        trainer = self.trainer
        data = cast("Mapping[str, Dataset]", trainer.eval_dataset)[part]
        found: dict[str, list[float]] = {}
        with evaluating(trainer.model), torch.no_grad():
            for first in range(0, len(data), _AT_ONCE):
                batch = trainer.collate([data[row] for row in range(first, min(first + _AT_ONCE, len(data)))])
                # A rule that asks the reference at every step has no columns of it in the data.
                batch = trainer.scoring.completed(on_device(batch, trainer.args.device), trained=True)
                output = trainer.model(**batch)
                for name in ("margin", "beta", "chosen_logps", "rejected_logps"):
                    found.setdefault(name, []).extend(output[name].tolist())
                for name in ("ref_chosen_logps", "ref_rejected_logps"):
                    found.setdefault(name, []).extend(batch[name].tolist())
        return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}
