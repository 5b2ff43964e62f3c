"""From a configuration to the objects that train: the one place that knows both."""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainerCallback

from betahead.beta.live import check_reference
from betahead.beta.rule import BetaRule
from betahead.data.prepare import PreparedPairs, prepare_pairs
from betahead.data.sources import expanded
from betahead.data.splits import split_by_prompt
from betahead.data.summary import DataSummary
from betahead.errors import BetaHeadError, ConfigError
from betahead.forward.agreed import agreed
from betahead.runs.adapters import adapter_of, check_adapter, loading_of
from betahead.runs.config import Config
from betahead.runs.corpus import fit_documents, held_out_prompts
from betahead.runs.model_section import SavedAdapter, SmallFit
from betahead.train.adapters import is_adapter_folder, with_saved_adapter
from betahead.train.arguments import DPOConfig
from betahead.train.parts import causal_model, tokenizer_for
from betahead.train.ranks import first_rank, from_first_rank
from betahead.train.scored import check_columns
from betahead.train.scoring import OnScoring, cache_place
from betahead.train.trainer import DPOTrainer
from betahead.worlds.small_model import FitProgress, FitReport, fit_small_model

OnFit = Callable[[FitProgress], None]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Tokenized pairs to train on and held out, and what became of the rows."""

    train: Dataset
    held_out: Dataset
    summaries: dict[str, DataSummary]

    @cached_property
    def shared_prompts(self) -> int:
        """Held-out prompts that are trained on too: 0 unless both files were given."""
        return len(set(self.train["prompt_id"]) & set(self.held_out["prompt_id"]))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A reference fitted on the spot: its folder, what it cost, and the prompts it has not seen."""

    folder: Path
    report: FitReport
    held_out: frozenset[str]


def rule_of(config: Config) -> BetaRule:
    """The beta rule of `beta`.

    Raises:
        ConfigError: when it is not made for the loss, or for a reference that is scored beforehand.
    """
    rule = config.beta.rule()
    agreed(config.loss.objective, rule)
    check_reference(rule, precomputed=config.reference.precomputed)
    return rule


def arguments_of(config: Config, output_dir: Path, *, keep_scores: bool = True, **instead: Any) -> DPOConfig:
    """The training arguments; nothing is created.

    Args:
        config: the run.
        output_dir: where checkpoints go.
        keep_scores: use the reference cache.
        instead: fields of `train` to replace.

    Raises:
        ConfigError: for a combination that `transformers` refuses, or an adapter that this machine cannot train.
    """
    check_adapter(config.model)
    try:
        args = DPOConfig(
            output_dir=str(output_dir),
            seed=config.seed,
            loss_type=config.loss.kind,
            loss_weights=config.loss.weights,
            **config.loss.settings,
            max_length=config.data.max_length,
            max_dropped=config.data.max_dropped,
            prompt_template=config.data.prompt_template,
            forward=config.forward.kind,
            forward_attention=config.forward.attention,
            precompute_ref_log_probs=config.reference.precomputed,
            reference_cache=_cache_of(config) if keep_scores else None,
            trust_remote_code=config.model.trust_remote_code,
            disable_tqdm=True,
            **{**config.train, **instead},
        )
        _check_optimizer(args)
        return args
    except ConfigError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        sentence = " ".join(str(error).split())
        raise ConfigError(
            f"`train` must be a combination that transformers accepts, but it says: {sentence}"
        ) from error


def _check_optimizer(args: DPOConfig) -> None:
    """A package that is missing is found before a model is loaded."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except ImportError as error:
        name, detail = getattr(args.optim, "value", args.optim), " ".join(str(error).split()).rstrip(".")
        raise ConfigError(
            f"`train.optim` must be an optimizer whose package is installed, but is {name} instead ({detail}); install "
            "it, or use adamw_torch."
        ) from error
    except (ValueError, TypeError, AttributeError):
        return  # what needs the model to decide is seen when the optimizer is built


def _cache_of(config: Config) -> str | None:
    """The folder of the reference cache, or None for a live reference or none at all."""
    if not config.reference.precomputed or not config.reads_reference:
        return None
    return str(cache_place(config.reference.cache, config.data.train))


@contextmanager
def fitted_reference(
    config: Config, near: Path, *, on_progress: OnFit | None = None, steps: int | None = None
) -> Generator[Fitted | None]:
    """The reference of `model.fit` in a temporary folder beside the run, or None when the model is named.

    Of several ranks the first fits it, and the others read it.

    Args:
        config: the run.
        near: the run's folder, which need not exist yet.
        on_progress: called after every step of the fit.
        steps: fit so many steps only, for a dry run.
    """
    fit = config.model.fit
    if fit is None:
        yield None
        return
    held_out = held_out_prompts(config.data, config.seed)
    if not first_rank():
        yield from_first_rank(None)
        return
    documents = fit_documents(fit, config.data, held_out)
    above = next(folder for folder in near.absolute().parents if folder.is_dir())
    folder = Path(tempfile.mkdtemp(prefix=fit_prefix(near), dir=above))
    try:
        spec = _spec(fit, steps)
        report = fit_small_model(documents, folder, spec=spec, seed=config.seed, on_progress=on_progress)
        yield from_first_rank(Fitted(folder=folder, report=report, held_out=frozenset(held_out)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fit_prefix(output: Path) -> str:
    """How the names of folders begin in which a reference is fitted for a run; they lie beside its own."""
    return f".betahead-fit-{output.name}-"


def _spec(fit: SmallFit, steps: int | None) -> Any:
    if steps is None:
        return fit.spec
    return dataclasses.replace(fit.spec, tokens=steps * fit.batch_rows * fit.row_tokens)


def policy_of(config: Config, fitted: Fitted | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model to train and its tokenizer.

    Raises:
        ConfigError: when it cannot be loaded.
    """
    name = str(fitted.folder) if fitted else config.model.name
    assert name is not None
    if is_adapter_folder(name):
        raise ConfigError(
            f"`model.name` must be a whole model, but {name} holds an adapter instead; name the model that it was "
            f"trained on, and say `model.adapter: {{kind: saved, path: {name}}}`."
        )
    trusted, adapter = config.model.trust_remote_code, config.model.adapter
    model = causal_model(name, loading_of(config.model), trust_remote_code=trusted)
    if isinstance(adapter, SavedAdapter):
        model = cast("PreTrainedModel", with_saved_adapter(model, expanded(adapter.path), key="model.adapter.path"))
    return model, tokenizer_for(model, None, trust_remote_code=trusted)


def data_of(config: Config, tokenizer: PreTrainedTokenizerBase, rule: BetaRule, fitted: Fitted | None) -> Data:
    """The pairs to train on and those held out, by prompt.

    Raises:
        DataError: for data that cannot be used.
    """
    section = config.data

    def prepared(source: str) -> PreparedPairs:
        found = prepare_pairs(
            source,
            tokenizer,
            max_length=section.max_length,
            layout=section.layout,
            prompt_template=section.prompt_template,
            ppl_tokens=rule.ppl_tokens,
            max_dropped=section.max_dropped,
            split=section.split,
        )
        # While lines of the file are known, and a dry run takes two pairs of it.
        check_columns(found.dataset, rule, found.places)
        return found

    pairs = prepared(section.train)
    summaries = {"train": pairs.summary}
    if section.eval is not None:
        other = prepared(section.eval)
        summaries["eval"] = other.summary
        train, held_out = pairs.dataset, other.dataset
    elif fitted is not None:
        unseen = [row for row, found in enumerate(pairs.dataset["prompt_id"]) if found in fitted.held_out]
        seen = [row for row, found in enumerate(pairs.dataset["prompt_id"]) if found not in fitted.held_out]
        train, held_out = pairs.dataset.select(seen), pairs.dataset.select(unseen)
    else:
        assert section.holdout is not None
        train, held_out = split_by_prompt(pairs.dataset, section.holdout, config.seed)
    if section.max_pairs is not None and section.max_pairs < len(train):
        train = train.shuffle(seed=config.seed).select(range(section.max_pairs))
    return Data(train=train, held_out=held_out, summaries=summaries)


def trainer_of(
    config: Config,
    args: DPOConfig,
    rule: BetaRule,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: Data,
    callbacks: list[TrainerCallback] | None = None,
    on_scoring: OnScoring | None = None,
) -> DPOTrainer:
    """The trainer, with the reference scored and the rule calibrated.

    Raises:
        CacheError: for a reference cache that cannot be used.
        ConfigError: for an adapter that does not fit the model, or an optimizer or logger whose package is missing.
    """
    try:
        trainer = DPOTrainer(
            model,
            args=args,
            train_dataset=data.train,
            eval_dataset=data.held_out,
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=adapter_of(config),
            beta=rule,
            on_scoring=on_scoring,
        )
        if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            trainer.create_optimizer()  # an optimizer whose package is missing is found before anything is written
    except BetaHeadError:
        raise
    except (ValueError, ImportError, RuntimeError) as error:
        sentence = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and "install" not in sentence:
            raise  # a logger without its package says so; anything else is a bug, or a device that is full
        if "Target modules" in sentence:
            raise ConfigError(f"`model.adapter.target_modules` must name layers of the model: {sentence}") from error
        raise ConfigError(f"`train` must be a combination that can be built, but is not: {sentence}") from error
    return trainer
