"""The settings of `DPOTrainer`: `transformers.TrainingArguments`, with TRL's names for preference training."""

from dataclasses import dataclass, field
from typing import Any, cast

from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.forward.choice import check_forward
from betahead.losses.links import link_named
from betahead.train.field_checks import check_fields, check_not_for_pairs


@dataclass
class DPOConfig(TrainingArguments):
    """Training arguments for preference pairs.

    Fields that TRL's `DPOConfig` has keep its name and meaning; a TRL field that is not listed is refused by Python as
    an unexpected keyword, never ignored. What differs from TRL by default: the reference's log-probabilities are
    computed before training (the same numbers without a second model in memory), gradient checkpointing and mixed
    precision are off, a non-finite loss is logged as it is, and prompts given as strings go through the tokenizer's
    chat template when it has one.

    Args:
        beta: β of plain DPO; None means 0.1. Not together with `DPOTrainer(beta=…)`.
        loss_type: `sigmoid`, `robust`, `hinge` or `ipo`.
        label_smoothing: share of labels taken to be flipped, in [0, 0.5); `sigmoid` (cDPO) and `robust` only.
        max_length: tokens of prompt and answer together; longer answers are cut at their end, prompts without room for
            an answer are dropped and counted. None for no limit.
        precompute_ref_log_probs: score the reference once before training; False scores it at every step.
        precompute_ref_batch_size: pairs per pass when scoring; None for the evaluation batch size.
        disable_dropout: turn dropout off in policy and reference (the dropout of an adapter stays as it was asked for).
        dataset_num_proc: processes that tokenize.
        model_init_kwargs: keywords for `AutoModelForCausalLM.from_pretrained` when the model is given by name; the
            weights are float32 unless `dtype` is among them.
        trust_remote_code: allow code that ships with a model.
        layout: layout of the data, `auto`, `explicit`, `chat`, `ultrafeedback` or `hh`.
        prompt_template: `auto` puts string prompts through the chat template when there is one, `none` never does.
        max_dropped: share of unusable rows above which the data is refused.
        head_max_grad_norm: gradient norm at which the beta rule is clipped, apart from the policy.
        calibration_prompts: training prompts whose log PPL sets the scale of the head.
        forward: `shared` reads each prompt once and both answers after it, `separate` is a padded row per answer,
            `auto` takes the shared road wherever the model gives the same numbers on it.
        forward_attention: what carries the attention of the shared road out: `sdpa` anywhere, `varlen` on CUDA in half
            precision, `flex`, or `auto`.
    """

    learning_rate: float = field(default=1e-6)
    logging_steps: float = field(default=10)
    logging_nan_inf_filter: bool = field(default=False)
    remove_unused_columns: bool = field(default=False)
    report_to: str | list[str] | None = field(default="none")

    beta: float | None = None
    loss_type: str | list[str] = "sigmoid"
    label_smoothing: float = 0.0
    max_length: int | None = 1024
    precompute_ref_log_probs: bool = True
    precompute_ref_batch_size: int | None = None
    disable_dropout: bool = True
    dataset_num_proc: int | None = None
    model_init_kwargs: dict[str, Any] | None = None
    trust_remote_code: bool = False
    layout: str = "auto"
    prompt_template: str = "auto"
    max_dropped: float = 0.1
    head_max_grad_norm: float = 1.0
    calibration_prompts: int = 512
    forward: str = "auto"
    forward_attention: str = "auto"

    def __post_init__(self) -> None:
        """Check what can be checked before a device is touched.

        Raises:
            ConfigError: for a loss, smoothing, length or norm that cannot be used.
        """
        if isinstance(self.loss_type, list):
            if len(self.loss_type) != 1:
                raise ConfigError(f"`loss_type` must name one loss, but is {self.loss_type} instead.")
            self.loss_type = self.loss_type[0]
        link_named(self.loss_type, self.label_smoothing)
        _whole("max_length", self.max_length, 2, or_none=True)
        _whole("calibration_prompts", self.calibration_prompts, 1)
        _whole("precompute_ref_batch_size", self.precompute_ref_batch_size, 1, or_none=True)
        _whole("dataset_num_proc", self.dataset_num_proc, 1, or_none=True)
        for key in ("precompute_ref_log_probs", "disable_dropout", "trust_remote_code"):
            if not isinstance(getattr(self, key), bool):
                raise ConfigError(f"`{key}` must be True or False, but is {getattr(self, key)!r} instead.")
        share: Any = self.max_dropped
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(f"`max_dropped` must be a share of the rows, in [0, 1], but is {share!r} instead.")
        check_fields(vars(self))
        check_not_for_pairs(self)
        norm: Any = self.head_max_grad_norm
        if isinstance(norm, bool) or not isinstance(norm, int | float) or not norm > 0:
            raise ConfigError(f"`head_max_grad_norm` must be a positive number, but is {norm!r} instead.")
        check_forward(self.forward, self.forward_attention)
        if self.remove_unused_columns:
            raise ConfigError("`remove_unused_columns` must be False, because the collator reads its columns by name.")
        # `transformers` renamed this setting; TRL's users, and older versions, know it by the first name.
        renamed = cast("Any", self)
        if hasattr(self, "activation_checkpointing") and renamed.activation_checkpointing is None:
            renamed.activation_checkpointing, renamed.gradient_checkpointing = self.gradient_checkpointing, None
        super().__post_init__()

    @property
    def checkpoints_activations(self) -> bool:
        """Whether the backward pass recomputes activations, under either name of the setting."""
        return bool(getattr(self, "activation_checkpointing", None) or self.gradient_checkpointing)


def _whole(key: str, value: Any, least: int, *, or_none: bool = False) -> None:
    if value is None and or_none:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        end = " or None" if or_none else ""
        raise ConfigError(f"`{key}` must be a whole number of at least {least}{end}, but is {value!r} instead.")
