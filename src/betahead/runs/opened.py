"""A run's folder opened again: policy, rule, reference and tokenizer as they stood when it was written."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from betahead.beta.files import load_rule
from betahead.beta.rule import BetaRule
from betahead.data.collate import PairCollator
from betahead.data.pack import PackedCollator
from betahead.data.paths import with_home
from betahead.data.prepare import PreparedPairs, prepare_pairs
from betahead.data.splits import split_by_prompt
from betahead.errors import BetaHeadError, ConfigError, DataError
from betahead.forward.choice import road_for
from betahead.forward.model import PreferenceModel
from betahead.reference.copies import frozen_copy
from betahead.reference.frozen import FrozenReference, wants_of
from betahead.runs.adapters import adapter_kept_in, check_adapter, loading_of
from betahead.runs.config import Config, load_config
from betahead.runs.corpus import held_out_prompts
from betahead.runs.folder import RunFolder
from betahead.runs.machine import device_kind
from betahead.runs.quiet import quieted
from betahead.train.safe_loading import SAFETENSORS, check_adapter_weights, check_code_of_run, refusal

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, kw_only=True)
class OpenedRun:
    """Everything of a run that scoring, sampling and explaining need, on one device and in evaluation mode.

    Args:
        folder: where it lies.
        config: as it was resolved.
        model: policy and rule, with the loss of the run.
        reference: what the policy was held to; gives log PPL when the rule reads the reference's.
        tokenizer: the policy's.
        device: where the models are.
    """

    folder: RunFolder
    config: Config
    model: PreferenceModel
    reference: FrozenReference
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def rule(self) -> BetaRule:
        """What decides β."""
        return self.model.rule

    @cached_property
    def collate(self) -> PairCollator | PackedCollator:
        """Makes batches for the road that the run's models take here; the run may have been trained elsewhere."""
        kind = "separate" if self.config.forward.kind == "separate" else "auto"
        models = [self.model.policy, *([] if self.reference_model is None else [self.reference_model])]
        roads = [road_for(model, kind) for model in models]
        road = next((road for road in roads if road.kind == "separate"), roads[0])
        return road.collator(cast("int", self.tokenizer.pad_token_id))

    @property
    def reference_model(self) -> nn.Module | None:
        """The reference as a model of its own, or None when it is the policy with its adapter off."""
        return None if self.reference.adapters_off else self.reference.model

    @property
    def layout(self) -> str:
        """The layout that the training data were found to have; the configured one before that is written down."""
        path = self.folder.path / "summary.json"
        if not path.is_file():
            return self.config.data.layout
        summary = _loaded("the run's summary", path, lambda: json.loads(path.read_text(encoding="utf-8")))
        return _loaded("the run's summary", path, lambda: str(summary["data"]["train"]["layout"]))

    def pairs(self, source: str, *, split: str | None = None, layout: str | None = None) -> PreparedPairs:
        """Pairs tokenized as those of the run were, and what became of the rows.

        Args:
            source: a file (with `$VARIABLES`), a Hub name or a saved data set.
            split: which split of several; the run's when None.
            layout: the run's when None.

        Raises:
            DataError: for data that cannot be used.
        """
        section = self.config.data
        return prepare_pairs(
            source,
            self.tokenizer,
            max_length=section.max_length,
            layout=layout or section.layout,
            prompt_template=section.prompt_template,
            ppl_tokens=self.rule.ppl_tokens,
            max_dropped=section.max_dropped,
            split=split or section.split,
        )

    def trained_prompts(self) -> frozenset[str] | None:
        """The ids of the prompts that the run trained on, or None when its data are no longer there.

        With `data.max_pairs` these are the prompts that the pairs were drawn from.
        """
        data = self.config.data
        try:
            records = self.pairs(data.train).dataset
            prompts = frozenset[str](records["prompt_id"])
            return prompts if data.eval is not None else prompts - frozenset[str](self.held_out()["prompt_id"])
        except DataError:
            return None

    @property
    def trained_digest(self) -> str | None:
        """The digest of the file or the saved data set that the run was trained on, None for data of the Hub.

        Raises:
            DataError: when run.json is missing or broken.
        """
        path = self.folder.path / "run.json"
        record = _loaded("the run's record", path, lambda: self.folder.record)
        return _loaded("the run's record", path, lambda: record["data"]["train"].get("sha256"))

    def held_out(self) -> Dataset:
        """The pairs that the run did not train on: its `data.eval`, or what it split off `data.train`.

        Raises:
            DataError: when the data are no longer there or cannot be used.
        """
        data = self.config.data
        if data.eval is not None:
            return self.pairs(data.eval).dataset
        records = self.pairs(data.train).dataset
        if self.config.model.fit is None:
            assert data.holdout is not None
            return split_by_prompt(records, data.holdout, self.config.seed)[1]
        # A reference that was fitted on the spot needed the split before there was a tokenizer.
        unseen = held_out_prompts(data, self.config.seed)
        return records.select([row for row, found in enumerate(records["prompt_id"]) if found in unseen])


def open_run(
    folder: str | Path, *, device: str = "auto", unfinished: bool = False, trust_remote_code: bool = False
) -> OpenedRun:
    """The run of a folder, with its models loaded.

    Args:
        folder: the run's `output`.
        device: `auto` (the best there is), `cpu`, `cuda`, `mps` or one of several such as `cuda:1`.
        unfinished: open a run without DONE too, as long as it has a policy.
        trust_remote_code: let a run whose configuration asks for it run the code of its model.

    Raises:
        DataError: for a folder that is missing, holds no run, did not finish, or has a file missing or broken.
        ConfigError: for a device that is not there, a config.yaml that cannot be read, or code that is not trusted.
    """
    run = _checked(with_home(folder), unfinished=unfinished)
    place = _device(device)
    config = load_config(run.config)
    check_code_of_run(run.path, asked=config.model.trust_remote_code, trusted=trust_remote_code)
    check_adapter(config.model)
    with quieted():
        # The smallest file first: a broken one should not cost the loading of two models.
        rule = _loaded("the beta head", run.path, lambda: load_rule(run.path))
        trusted = config.model.trust_remote_code
        tokenizer = _loaded("the tokenizer", run.policy, lambda: _tokenizer(run.policy, trusted))
        adapter, started = adapter_kept_in(run.policy), adapter_kept_in(run.reference_adapter)
        start = str(run.path / "reference") if config.model.fit is not None else cast("str", config.model.name)
        base = _model("the reference", start, config, **loading_of(config.model))
        reference_model = frozen_copy(base.requires_grad_(False)) if started else base
        if started:
            reference_model = _adapted("the reference's adapter", reference_model, run.reference_adapter)
        if adapter:
            policy = _adapted("the adapter", base, run.policy)
        else:
            policy = _model("the policy", str(run.policy), config, dtype=config.model.dtype)
    model = PreferenceModel(policy, rule, objective=config.loss.objective)
    reference = FrozenReference(
        policy if adapter and not started else reference_model,
        adapters_off=adapter and not started,
        wants_common=model.objective.needs_common,
        **wants_of(rule),
    )
    model.reference_head = reference.head
    for module in (model, reference.model):
        cast("nn.Module", module).to(place).eval().requires_grad_(False)
    return OpenedRun(folder=run, config=config, model=model, reference=reference, tokenizer=tokenizer, device=place)


def _checked(path: Path, *, unfinished: bool) -> RunFolder:
    run = RunFolder(path)
    if not run.config.is_file():
        problem = "has no config.yaml" if path.is_dir() else "is a file" if path.exists() else "does not exist"
        raise DataError(f"RUN must be the folder of a run, but {path} {problem}; name the `output` of a run.")
    if not run.finished and not unfinished:
        raise DataError(
            f"RUN must be a finished run, but {path} has no file DONE; wait for its training to end, or add "
            "--unfinished to see what is there."
        )
    if not run.policy.is_dir():
        raise DataError(f"RUN must hold a policy, but {path} has no folder policy; train it again.")
    return run


def _device(name: str) -> torch.device:
    """The device of that name, tried out with one number."""
    try:
        device = torch.device(device_kind() if name == "auto" else name)
        torch.zeros(1, device=device)
    # What torch says of a name that it does not know, of CUDA in a build without it, and of a device without kernels.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"`--device` must be a device of this machine, but is {name!r} instead; `betahead doctor` shows what "
            "there is."
        ) from error
    return device


def _model(what: str, name: str, config: Config, **loading: Any) -> PreTrainedModel:
    """A causal language model with all of its weights: transformers fills missing ones with noise and a warning."""

    def load() -> tuple[PreTrainedModel, dict[str, Any]]:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            trust_remote_code=config.model.trust_remote_code,
            output_loading_info=True,
            **SAFETENSORS,
            **loading,
        )
        return loaded

    model, info = _loaded(what, name, load)
    if info["missing_keys"]:
        one = min(info["missing_keys"])
        raise DataError(f"{what} must have all of its weights, but {name} lacks {one}; copy it again.")
    return model


def _tokenizer(folder: Path, trusted: bool) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)


def _adapted(what: str, base: PreTrainedModel, folder: Path) -> PeftModel:
    def load() -> PeftModel:
        check_adapter_weights(folder)
        return PeftModel.from_pretrained(cast("Any", base), folder)

    return _loaded(what, folder, load)


def _loaded(what: str, where: str | Path, load: Callable[[], _T]) -> _T:
    try:
        return load()
    except BetaHeadError:
        raise
    except Exception as error:  # A broken file makes each library trip over something else.
        detail = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise refusal(where, error) or DataError(
            f"{what} must be loadable from {where}, but is not ({detail}); restore its files."
        ) from error
