"""The sequence world as something that methods are compared in: a small language model, trained for every run."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from betahead.errors import ConfigError
from betahead.runs.quiet import quieted
from betahead.runs.sequence_measures import SEQUENCE_MEASURES, corpus_texts
from betahead.runs.sequence_methods import FINGERPRINTED, SEQUENCE_METHODS, SHARED_AXES, Values
from betahead.runs.sequence_run import SequenceRun, Start, trained_run
from betahead.runs.sequence_scores import PromptScores, SampledPolicy
from betahead.runs.sequence_settings import SequenceSettings, default_cache, shared_reference
from betahead.worlds.grammar import GrammarWorld
from betahead.worlds.outcome import MethodWorld, Outcome, PromptTopics, WorldMethod
from betahead.worlds.registered import SEQUENCE, unknown_method, why_not
from betahead.worlds.world import WorldPair

# The divergences, nats per answer, at which the protocol compares language models.
_KL_TARGETS = (1.0, 2.0, 5.0)
# More than a split has: none comes twice before all have come.
_EVERY_PROMPT = 40_000


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
        self._prompts: dict[str, SampledPolicy] = {}

    def methods(self) -> Mapping[str, WorldMethod]:
        return MappingProxyType({name: method.described for name, method in SEQUENCE_METHODS.items()})

    def kl_targets(self) -> tuple[float, ...]:
        return _KL_TARGETS

    def measures(self) -> tuple[str, ...]:
        """The names of what it measures beside gold and KL."""
        return SEQUENCE_MEASURES

    def runs_of(self, method: str) -> str:
        """The method whose very runs are those of this one."""
        return SEQUENCE_METHODS[method].same_as or method

    def fingerprint(self) -> Mapping[str, Any]:
        return {
            "settings": asdict(self.settings),
            "methods": [method.to_dict() for method in FINGERPRINTED.values()],
        }

    def declared(self, methods: Collection[str]) -> Mapping[str, Any]:
        """What those of these methods declare that the fingerprint leaves out: controls of the package's rules."""
        more = sorted(set(methods) & (SEQUENCE_METHODS.keys() - FINGERPRINTED.keys()))
        return {name: SEQUENCE_METHODS[name].to_dict() for name in more}

    def why_not(self, method: str) -> str | None:
        """Why there is no such method here, where its name says what it would be."""
        return why_not(method, SEQUENCE_METHODS, SEQUENCE)

    def prompt_texts(self, split: Literal["train", "eval", "test"]) -> set[str]:
        """The prompts that a run may train on, or those that policies are scored and measured on."""
        s = self.settings
        counts = {"train": _EVERY_PROMPT, "eval": s.eval_prompts, "test": max(s.test_prompts, s.held_out_pairs)}
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
        row = SEQUENCE_METHODS.get(method)
        if row is None:
            raise ConfigError(unknown_method(method, SEQUENCE_METHODS, self.why_not(method)))
        _check(row.described, configurations)
        held_out = self._held_out(split)

        def one(values: Values, seed: int) -> SequenceRun:
            return trained_run(
                row.rule(values),
                self._start,
                self._sampled(split),
                self.settings,
                learning_rate=values["learning_rate"],
                seed=seed,
                loss=row.loss,
                label_smoothing=row.label_smoothing,
                lessons=row.lessons(values, self._world.topics),
                held_out=held_out,
            )

        with quieted():
            runs = [[one(values, seed) for seed in seeds] for values in configurations]
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
            measures={
                name: np.array([[run.measures[name] for run in by_seed] for by_seed in runs])
                for name in SEQUENCE_MEASURES
            },
            topics=self._topics(split),
        )

    def _topics(self, split: Literal["eval", "test"]) -> PromptTopics:
        names = [topic.name for topic in self._world.topics]
        return PromptTopics(
            of_prompt=np.array([names.index(prompt.topic) for prompt in self._sampled(split).prompts]),
            label_noise=tuple(topic.label_noise for topic in self._world.topics),
        )

    @cached_property
    def _start(self) -> Start:
        folder = shared_reference(self.settings, self._cache)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        # The reference is fitted on documents of seed 0.
        unseen = corpus_texts(self._world.corpus(self.settings.corpus_texts, 1), tokenizer)
        return Start(folder=folder, model=model, tokenizer=tokenizer, world=self._world, unseen=unseen)

    def _sampled(self, split: Literal["eval", "test"]) -> SampledPolicy:
        """How policies are sampled on a split; the reference's own answers are drawn once."""
        if split not in self._prompts:
            s = self.settings
            count = s.eval_prompts if split == "eval" else s.test_prompts
            self._prompts[split] = SampledPolicy(
                self._world,
                self._world.prompts(count, 0, split),
                self._start.model,
                self._start.tokenizer,
                samples=s.samples,
                max_new_tokens=s.max_new_tokens,
            )
        return self._prompts[split]

    def _held_out(self, split: Literal["eval", "test"]) -> dict[str, list[WorldPair]]:
        """The pairs that measures are of, and in finals those of selection, for the one temperature."""
        parts: dict[str, Literal["eval", "test"]] = {"scored": split}
        if split == "test":
            parts["dev"] = "eval"
        return {part: self._world.pairs(self.settings.held_out_pairs, 0, of) for part, of in parts.items()}


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
