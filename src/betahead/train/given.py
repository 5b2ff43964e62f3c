"""What a caller gives to `DPOTrainer`, of the kinds that it takes: people come from other trainers."""

from typing import Any

from peft import PeftConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from betahead.errors import ConfigError
from betahead.forward.model import PreferenceModel
from betahead.train.arguments import DPOConfig
from betahead.train.parts import causal_model


def check_given(
    *, model: Any, ref_model: Any, args: Any, processing_class: Any, peft_config: Any, data_collator: Any
) -> None:
    """Refuse parts of another kind, and a model that would be frozen because it is also the reference.

    Raises:
        ConfigError: names the part, what it is and what to give.
    """
    if args is not None and not isinstance(args, DPOConfig):
        raise ConfigError(
            f"`args` must be a betahead.DPOConfig, but is a {_name(args)} instead; import DPOConfig from betahead, "
            "which has the same fields."
        )
    if ref_model is not None and ref_model is model and not isinstance(model, str):
        raise ConfigError(
            "`ref_model` must be another model than `model`, which would be frozen with it, but is the same object "
            "instead; leave it out, and the reference is the model as it is given."
        )
    if peft_config is not None and not isinstance(peft_config, PeftConfig):
        raise ConfigError(
            f"`peft_config` must be a configuration of PEFT such as LoraConfig or None, but is {peft_config!r} instead."
        )
    if processing_class is not None and not isinstance(processing_class, PreTrainedTokenizerBase):
        raise ConfigError(
            f"`processing_class` must be a tokenizer of transformers, or None, but is a {_name(processing_class)} "
            "instead; of a processor give its `tokenizer`."
        )
    if data_collator is not None and args is not None and args.forward != "auto":
        raise ConfigError(
            f"`forward` must be auto with a `data_collator`, whose batches decide, but is {args.forward} instead."
        )


def check_reference_is_read(preference: PreferenceModel, ref_model: Any, args: DPOConfig) -> None:
    """Refuse what describes a reference where neither the loss nor the rule reads one.

    Raises:
        ConfigError: for the first of such settings.
    """
    if preference.needs_reference:
        return
    given: dict[str, tuple[bool, Any]] = {
        "ref_model": (ref_model is not None, "a model"),
        "reference_cache": (args.reference_cache is not None, args.reference_cache),
        "precompute_ref_log_probs": (not args.precompute_ref_log_probs, False),
    }
    for key, (there, shown) in given.items():
        if there:
            raise ConfigError(
                f"`{key}` must be left out with `loss.kind` {' and '.join(preference.objective.kinds)}, which reads no "
                f"reference, but is {shown} instead; remove it."
            )


def reference_model(given: Any, args: DPOConfig, *, beside: Any) -> PreTrainedModel | None:
    """The reference of its own, loaded if it was named, as the model is.

    Args:
        given: a model, a folder or Hub name, or None.
        args: settings.
        beside: the model to train: the keywords for loading are those of names.

    Raises:
        ConfigError: when it cannot be loaded or is no causal language model.
    """
    if given is None:
        return None
    keywords = args.model_init_kwargs if isinstance(given, str) and isinstance(beside, str) else None
    try:
        return causal_model(given, keywords, trust_remote_code=args.trust_remote_code)
    except ConfigError as error:
        raise ConfigError(str(error).replace("`model`", "`ref_model`", 1)) from error


def _name(thing: Any) -> str:
    kind = type(thing)
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
