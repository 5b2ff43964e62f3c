"""One run in the sequence world: a policy from the shared reference, trained on a seed's pairs, scored and measured."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from betahead.beta.control_levels import NoiseBeta
from betahead.beta.rule import BetaRule, Need
from betahead.errors import TrainingError
from betahead.runs.sequence_lessons import Lessons
from betahead.runs.sequence_measures import CorpusTexts, SequenceMeasures
from betahead.runs.sequence_scores import PromptScores, SampledPolicy, SampledScores, topic_log_beta
from betahead.runs.sequence_settings import SequenceSettings
from betahead.train.arguments import DPOConfig
from betahead.train.trainer import DPOTrainer
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.world import WorldPair


@dataclass(frozen=True, eq=False, kw_only=True)
class Start:
    """What all runs start from.

    Args:
        folder: of the reference.
        model: the reference.
        tokenizer: the reference's.
        world: of the pairs.
        unseen: texts of the reference's corpus that it was not fitted on.
    """

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    world: GrammarWorld
    unseen: CorpusTexts


@dataclass(frozen=True, eq=False, kw_only=True)
class SequenceRun:
    """What came out of a run.

    Args:
        scores: by checkpoint, the reference first.
        measures: by name.
        finite: False for a run that diverged.
        log_beta: mean log β per topic at the end.
    """

    scores: Sequence[PromptScores]
    measures: Mapping[str, Float[np.ndarray, " checkpoints"]]
    finite: bool
    log_beta: Float[np.ndarray, " topics"]


def trained_run(
    rule: BetaRule,
    start: Start,
    sampled: SampledPolicy,
    settings: SequenceSettings,
    *,
    learning_rate: float,
    seed: int,
    lessons: Lessons,
    loss: str,
    label_smoothing: float,
    held_out: Mapping[str, Sequence[WorldPair]],
) -> SequenceRun:
    """Train once; score and measure along the way.

    Args:
        rule: decides β.
        start: what all runs share.
        sampled: how the policy is scored.
        settings: sizes.
        learning_rate: of the policy.
        seed: of the pairs, their order and the samples, and of the draws of a rule that has some.
        lessons: what is changed about the pairs.
        loss: a name of `betahead.losses.table.LOSSES`.
        label_smoothing: of the loss.
        held_out: pairs for the measures, by `HeldOut`.
    """
    if isinstance(rule, NoiseBeta):
        rule.seed = seed
    pairs = start.world.pairs(settings.pairs, seed, "train")
    policy: Any = AutoModelForCausalLM.from_pretrained(start.folder, dtype="float32")
    along = SampledScores(sampled, settings.scored_steps, seed=seed)
    with tempfile.TemporaryDirectory() as nowhere:
        trainer = DPOTrainer(
            policy,
            args=_arguments(
                Path(nowhere),
                settings,
                rule,
                loss_type=loss,
                label_smoothing=label_smoothing,
                learning_rate=learning_rate,
                seed=seed,
            ),
            train_dataset=lessons.training_data(pairs),
            eval_dataset={part: lessons.data(of_part) for part, of_part in held_out.items()},
            processing_class=start.tokenizer,
            callbacks=[along],
            beta=rule,
        )
        trainer.remove_callback(PrinterCallback)
        measures = SequenceMeasures(trainer, start.model, start.unseen, list(settings.scored_steps))
        trainer.add_callback(measures)
        try:
            trainer.train()
        except TrainingError:  # what diverged is a finding here, not a mistake
            along.finite = False
    scores = [sampled.reference_scores, *along.scores]
    return SequenceRun(
        scores=scores,
        measures=measures.along(scores),
        finite=along.finite,
        log_beta=topic_log_beta(trainer, [topic.name for topic in start.world.topics]),
    )


def _arguments(folder: Path, settings: SequenceSettings, rule: BetaRule, **given: Any) -> DPOConfig:
    return DPOConfig(
        **given,
        output_dir=str(folder),
        # Such a rule asks the reference at every step.
        precompute_ref_log_probs=Need.PERTURBED not in rule.of_reference,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_pairs,
        per_device_eval_batch_size=32,
        # A constant rate: a checkpoint is then the end of a shorter run.
        lr_scheduler_type="constant",
        max_length=settings.reference.row_tokens,
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
