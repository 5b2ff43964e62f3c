"""The sequence world as something that methods are compared in: a small language model, trained for every run."""

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Float
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from betahead.beta.controls import PermutedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.errors import ConfigError
from betahead.runs.quiet import quieted
from betahead.runs.sequence_scores import PromptScores, SampledPolicy, SampledScores, topic_log_beta
from betahead.runs.sequence_settings import SequenceSettings, default_cache, shared_reference
from betahead.train.arguments import DPOConfig
from betahead.train.trainer import DPOTrainer
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.outcome import Axis, MethodWorld, Outcome, WorldMethod
from betahead.worlds.world import WorldPair

SHARED_AXES = (Axis(name="learning_rate", low=5e-5, high=1e-3), Axis(name="beta", low=0.03, high=1.0))
"""What every method is tuned over; `beta` is where β starts."""

_LEARNED = (Axis(name="beta_learning_rate", low=1e-3, high=2e-2), Axis(name="rho", low=0.03, high=0.3))
# The divergences, nats per answer, at which the protocol compares language models.
_KL_TARGETS = (1.0, 2.0, 5.0)
# More than a split has: none comes twice before all have come.
_EVERY_PROMPT = 40_000

Values = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class _Method:
    described: WorldMethod
    rule: Callable[[Values], BetaRule]
    clean: bool = False


def _fixed(values: Values) -> BetaRule:
    return FixedBeta(values["beta"])


def _quadratic(values: Values) -> BetaRule:
    # The head as it comes, banded at p = 1: in so few steps a `direct` head learns a level and no allocation.
    return LearnedBeta(
        initial_beta=values["beta"],
        ppl_tokens="content",
        learning="perspective",
        rho=values["rho"],
        learning_rate=values["beta_learning_rate"],
    )


def _permuted(values: Values) -> BetaRule:
    return PermutedBeta(_quadratic(values))


def _described(name: str, summary: str, axes: tuple[Axis, ...] = (), **more: Any) -> WorldMethod:
    given: dict[str, Any] = {"parent": None, "placebo": None, **more}
    return WorldMethod(name=name, axes=axes, summary=summary, **given)


_METHODS = (
    _Method(described=_described("fixed", "one β for all prompts"), rule=_fixed),
    _Method(
        described=_described(
            "perspective_quadratic",
            "β ∝ log PPL · f(hidden state), learned by perspective, R = ρτ² − τ log 2",
            _LEARNED,
            parent="fixed",
            placebo="permuted:perspective_quadratic",
        ),
        rule=_quadratic,
    ),
    _Method(
        described=_described(
            "permuted:perspective_quadratic",
            "placebo of perspective_quadratic: every pair gets the β of the pair before it",
            _LEARNED,
            parent="fixed",
        ),
        rule=_permuted,
    ),
    _Method(
        described=_described("clean_labels", "one β, on labels before noise turned them round", needs_truth=True),
        rule=_fixed,
        clean=True,
    ),
    _Method(described=_described("renamed", "fixed under another name: a difference is false"), rule=_fixed),
)
SEQUENCE_METHODS: Mapping[str, WorldMethod] = MappingProxyType({m.described.name: m.described for m in _METHODS})


def sequence_method_world(settings: SequenceSettings | None = None, *, cache: Path | None = None) -> MethodWorld:
    """The readable world with a small language model, in which every method trains through `DPOTrainer`.

    Args:
        settings: its sizes.
        cache: where the fitted reference is kept; the user's cache folder by default.
    """
    return _SequenceWorld(settings or SequenceSettings(), cache or default_cache())


class _SequenceWorld:
    """See `sequence_method_world`."""

    name = "sequence"

    def __init__(self, settings: SequenceSettings, cache: Path) -> None:
        self.settings, self._cache = settings, cache
        self._world = GrammarWorld()
        self._table = {method.described.name: method for method in _METHODS}
        self._prompts: dict[str, SampledPolicy] = {}

    def methods(self) -> Mapping[str, WorldMethod]:
        return SEQUENCE_METHODS

    def kl_targets(self) -> tuple[float, ...]:
        return _KL_TARGETS

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "settings": asdict(self.settings),
            "methods": [{**asdict(one.described), "clean": one.clean} for one in self._table.values()],
        }

    def prompt_texts(self, split: Literal["train", "eval", "test"]) -> set[str]:
        """The prompts that a run may train on, or those that policies are scored on."""
        counts = {"train": _EVERY_PROMPT, "eval": self.settings.eval_prompts, "test": self.settings.test_prompts}
        return {prompt.text for prompt in self._world.prompts(counts[split], 0, split)}

    def run(
        self,
        method: str,
        configurations: Sequence[Mapping[str, float]],
        seeds: Sequence[int],
        *,
        split: Literal["eval", "test"],
    ) -> Outcome:
        began = time.perf_counter()
        row = self._table.get(method)
        if row is None:
            raise ConfigError(f"`method` must be one of {', '.join(self._table)}, but is {method!r} instead.")
        _check(row.described, configurations)
        with quieted():
            runs = [[self._one(row, values, seed, split) for seed in seeds] for values in configurations]
        checkpoints = (0.0, *self.settings.scored_steps.values())

        def stacked(of: Callable[[PromptScores], np.ndarray]) -> np.ndarray:
            return np.array([[[of(scores) for scores in run.scores] for run in by_seed] for by_seed in runs])

        return Outcome(
            reward=stacked(lambda scores: scores.reward),
            kl=stacked(lambda scores: scores.kl),
            win_rate=stacked(lambda scores: scores.win_rate),
            finite=np.array([[run.finite for run in by_seed] for by_seed in runs]),
            checkpoints=checkpoints,
            same_prompts=True,
            log_beta=np.array([[run.log_beta for run in by_seed] for by_seed in runs]),
            seconds=time.perf_counter() - began,
        )

    @cached_property
    def _reference(self) -> tuple[Path, PreTrainedModel, PreTrainedTokenizerBase]:
        folder = shared_reference(self.settings, self._cache)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        return folder, model, AutoTokenizer.from_pretrained(folder)

    def _sampled(self, split: Literal["eval", "test"]) -> SampledPolicy:
        """How policies are sampled on a split; the reference's own answers are drawn once."""
        if split not in self._prompts:
            s = self.settings
            count = s.eval_prompts if split == "eval" else s.test_prompts
            _, model, tokenizer = self._reference
            self._prompts[split] = SampledPolicy(
                self._world,
                self._world.prompts(count, 0, split),
                model,
                tokenizer,
                samples=s.samples,
                max_new_tokens=s.max_new_tokens,
            )
        return self._prompts[split]

    def _one(self, row: _Method, values: Values, seed: int, split: Literal["eval", "test"]) -> "_Run":
        """Train once and score along the way."""
        s = self.settings
        folder, _, tokenizer = self._reference
        sampled = self._sampled(split)
        pairs = self._world.pairs(s.pairs, seed, "train")
        rows = [_clean(pair).row if row.clean else pair.row for pair in pairs]
        policy: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        along = SampledScores(sampled, s.scored_steps, seed=seed)
        with tempfile.TemporaryDirectory() as nowhere:
            trainer = DPOTrainer(
                policy,
                args=_arguments(Path(nowhere), s, values["learning_rate"], seed),
                train_dataset=Dataset.from_list(cast("list[dict[str, Any]]", rows)),
                processing_class=tokenizer,
                callbacks=[along],
                beta=row.rule(values),
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return _Run(
            scores=[sampled.reference_scores, *along.scores],
            finite=along.finite,
            log_beta=topic_log_beta(trainer, [topic.name for topic in self._world.topics]),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Run:
    scores: list[PromptScores]
    finite: bool
    log_beta: Float[np.ndarray, " topics"]


def _clean(pair: WorldPair) -> WorldPair:
    """The pair as gold orders it."""
    if not pair.flipped:
        return pair
    return WorldPair(
        prompt=pair.prompt,
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_gold=pair.rejected_gold,
        rejected_gold=pair.chosen_gold,
        flipped=False,
    )


def _arguments(folder: Path, settings: SequenceSettings, learning_rate: float, seed: int) -> DPOConfig:
    return DPOConfig(
        output_dir=str(folder),
        seed=seed,
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_pairs,
        per_device_eval_batch_size=32,
        learning_rate=learning_rate,
        # A constant rate: a checkpoint is then the end of a shorter run.
        lr_scheduler_type="constant",
        max_length=settings.reference.row_tokens,
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )


def _check(method: WorldMethod, configurations: Sequence[Values]) -> None:
    names = [axis.name for axis in (*SHARED_AXES, *method.axes)]
    for given in configurations:
        if set(given) != set(names):
            raise ConfigError(
                f"`configurations` of {method.name} must each hold {', '.join(names)}, but hold "
                f"{', '.join(given) or 'nothing'} instead."
            )
        for name in names:
            if not 0 < given[name] < math.inf:
                raise ConfigError(f"`{name}` of {method.name} must be above 0, but is {given[name]} instead.")
