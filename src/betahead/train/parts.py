"""From what a caller gives to `DPOTrainer` to the parts that train: model, tokenizer, rule, data."""

import sys
from collections.abc import Callable
from typing import Any, cast

from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from betahead.beta.fixed import FixedBeta
from betahead.beta.live import check_reference
from betahead.beta.rule import BetaRule
from betahead.beta.wpo import OnPolicyWeight
from betahead.data.prepare import prepare_pairs
from betahead.errors import ConfigError
from betahead.forward.model import PreferenceModel
from betahead.reference.copies import frozen_copy
from betahead.reference.frozen import FrozenReference, wants_of
from betahead.train.adapters import base_named_by, is_adapter_folder, with_saved_adapter
from betahead.train.arguments import DPOConfig, shards
from betahead.train.safe_loading import SAFETENSORS, refusal

DEFAULT_BETA = 0.1


def rule_from(beta: float | BetaRule | None, args: DPOConfig) -> BetaRule:
    """The beta rule: the one given, or a fixed β from a number, from `DPOConfig.beta` or 0.1, weighing pairs or not.

    Raises:
        ConfigError: when β is given twice, or the rule asks the reference what was computed beforehand.
    """
    shown = type(beta).__name__ if isinstance(beta, BetaRule) else beta
    if beta is not None and args.beta is not None:
        raise ConfigError(
            f"`beta` must be given once, but DPOConfig says {args.beta} and DPOTrainer says {shown}; remove one."
        )
    if not isinstance(beta, BetaRule):
        number = args.beta if beta is None else beta
        number = DEFAULT_BETA if number is None else number
        return OnPolicyWeight(number, cap=None) if args.use_weighting else FixedBeta(number)
    if args.use_weighting:
        raise ConfigError(
            f"`use_weighting` must be False with a rule as `beta`, but is True beside {shown}; of the rules, "
            "OnPolicyWeight is the one that weighs so."
        )
    check_reference(beta, precomputed=args.precompute_ref_log_probs, cache=args.reference_cache)
    return beta


def causal_model(
    model: str | PreTrainedModel, init_kwargs: dict[str, Any] | None = None, *, trust_remote_code: bool = False
) -> PreTrainedModel:
    """The model, loaded if it was named, and known to be a causal language model.

    The folder of an adapter stands for the adapter on its base model, to be trained further.

    Raises:
        ConfigError: when it cannot be loaded or is not causal.
    """
    if isinstance(model, str) and is_adapter_folder(model):
        base = causal_model(base_named_by(model), init_kwargs, trust_remote_code=trust_remote_code)
        return cast("PreTrainedModel", with_saved_adapter(base, model, key="model"))
    if isinstance(model, str):
        # Steps of fine-tuning are so small that they vanish in bfloat16 weights; mixed precision is the other setting.
        if (init_kwargs or {}).get("use_safetensors") is False:
            raise ConfigError(
                "`model_init_kwargs` must leave out `use_safetensors`, but it is False instead; weights that are "
                "pickles are never read."
            )
        options: dict[str, Any] = {
            "trust_remote_code": trust_remote_code,
            "dtype": "float32",
            **(init_kwargs or {}),
            **SAFETENSORS,
        }
        try:
            config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
            if not _is_causal(config):
                raise ConfigError(f"`model` must be a causal language model, but {model} is {config.model_type}.")
            loaded: Any = AutoModelForCausalLM.from_pretrained(model, **options)
        except ConfigError:
            raise
        except Exception as error:  # whatever a broken folder makes the libraries say
            sentence = " ".join(str(error).split())
            raise refusal(model, error) or ConfigError(
                f"`model` must be a folder or Hub name of a causal language model, but {model} cannot be loaded "
                f"({sentence.rstrip('.')}); correct the name, or download or save it again."
            ) from error
        return loaded
    if not isinstance(cast("Any", model), PreTrainedModel | PeftModel):
        raise ConfigError(
            f"`model` must be a causal language model, or the folder or Hub name of one, but is {model!r} instead."
        )
    if init_kwargs is not None:
        raise ConfigError("`model_init_kwargs` applies only to a model given by name, but a loaded model was given.")
    inner = cast("PreTrainedModel", model.get_base_model() if isinstance(model, PeftModel) else model)
    if not _is_causal(inner.config) or inner.get_output_embeddings() is None:
        raise ConfigError(f"`model` must be a causal language model, but is {type(inner).__name__} instead.")
    return model


def _is_causal(config: PreTrainedConfig) -> bool:
    """False for encoder-decoders, and for encoders whose LM head would see the tokens that it is to predict."""
    return not config.is_encoder_decoder and getattr(config, "is_decoder", None) is not False


def tokenizer_for(
    model: PreTrainedModel, given: PreTrainedTokenizerBase | None, *, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer given, or the one that lies with the model.

    Raises:
        ConfigError: when the model does not say where it came from, or no tokenizer lies there.
    """
    if given is not None:
        return given
    name = model.config.name_or_path
    if not name:
        raise ConfigError("`processing_class` must be given for a model that was not loaded from a folder or the Hub.")
    sentence = f"`processing_class` must be given, because {name} holds no tokenizer."
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise refusal(name, error) or ConfigError(sentence) from error
    # From a folder without tokenizer files, transformers makes an empty one that encodes every text to nothing.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ConfigError(sentence)
    return tokenizer


def without_dropout(*models: nn.Module | None) -> None:
    """Set every dropout of the models to 0, also those kept as a plain number beside an attention function."""
    for module in (module for model in models if model is not None for module in model.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):
            cast("Any", module).attention_dropout = 0.0


def drops_out(model: nn.Module) -> bool:
    """Whether two passes of a model in training differ because of dropout."""
    kept = (getattr(module, "attention_dropout", 0.0) for module in model.modules())
    layers = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    return layers or any(isinstance(share, float) and share > 0 for share in kept)


def reference_for(
    preference: PreferenceModel, given: PreTrainedModel | None, args: DPOConfig, *, new_adapter: bool
) -> FrozenReference:
    """What the policy is held to: the model given, or the policy before training without a second copy if possible.

    With a new adapter that is the policy with the adapter off, at any time. With one that the policy came with, it is a
    copy of the adapter around the same weights. Without any it is the policy itself as long as it has not been trained,
    or a copy when it is needed later: every batch is to be scored as it comes, or the rule asks how far the policy has
    moved.

    Args:
        preference: policy, rule and losses, which say what is to be scored.
        given: the reference, where it is another model.
        args: settings.
        new_adapter: the policy has an adapter that the reference is without.
    """
    policy: nn.Module = preference.policy
    if given is not None:
        given.requires_grad_(False)
        policy = nn.Module.to(given, args.device)
    elif not new_adapter:
        later = not args.precompute_ref_log_probs or preference.rule.kl_sampling is not None
        # Sharded weights change their places, so that a copy could not stand around the same ones.
        if later or (isinstance(policy, PeftModel) and preference.needs_reference and not shards(args)):
            policy = frozen_copy(policy)
    return FrozenReference(
        policy,
        adapters_off=new_adapter and given is None,
        wants_common=preference.objective.needs_common,
        kernel=preference.kernel,
        **wants_of(preference.rule),
    )


def tokenized(data: Dataset | Any, tokenizer: PreTrainedTokenizerBase, args: DPOConfig, rule: BetaRule) -> Dataset:
    """Tokenized records of any data set that the data layer reads; already tokenized ones are checked and kept."""
    there = isinstance(data, Dataset) and "prompt_ids" in data.column_names
    return prepare_pairs(
        data,
        tokenizer,
        max_length=sys.maxsize if args.max_length is None else args.max_length,
        layout="tokenized" if there else args.layout,
        prompt_template=args.prompt_template,
        ppl_tokens=rule.ppl_tokens,
        max_dropped=args.max_dropped,
        num_proc=args.dataset_num_proc,
    ).dataset


def each(data: Any, prepared: Callable[[Any], Any]) -> Any:
    """What `prepared` makes of a data set, or of every one in a dict of them; None stays None."""
    if data is None:
        return None
    if isinstance(data, dict):
        return {name: prepared(one) for name, one in cast("dict[str, Any]", data).items()}
    return prepared(data)


def of_each(data: Any) -> list[Any]:
    """The data sets of a dict of them, or the one given; none for None."""
    if data is None:
        return []
    return list(cast("dict[str, Any]", data).values()) if isinstance(data, dict) else [data]
