"""The settings of `DPOTrainer`: `transformers.TrainingArguments`, with TRL's names for preference training."""

import os
from dataclasses import dataclass, field
from typing import Any, cast

from transformers import TrainingArguments

from betahead.errors import ConfigError
from betahead.forward.choice import check_forward
from betahead.losses.objective import Objective, objective_of
from betahead.losses.settings import DEFAULTS
from betahead.train.field_checks import check_fields, check_not_for_pairs
from betahead.train.guard_limits import GuardLimits, check_on_warning

ORDERS = ("random", "sequential", "group_by_length")
"""Orders of the training pairs; `batch_rebalance` of transformers balances ranks, which groups by length do as well."""


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
        loss_type: a loss of `losses.table.LOSSES`, or a list of several; a rule reads the margin of the first of them.
        loss_weights: one for each of the list; None for 1 each.
        label_smoothing: share of labels taken to be flipped, in [0, 0.5), for losses that have it.
        f_divergence_type: `reverse_kl`, `forward_kl`, `js_divergence` or `alpha_divergence`, for losses of the margin.
        f_alpha_divergence_coef: α of `alpha_divergence`.
        ld_alpha: what the tokens of an answer count beyond the other one's length, in [0, 1] (LD-DPO); None for all.
        discopop_tau: temperature of `discopop`.
        simpo_gamma: target margin of `simpo`, in units of β·margin.
        dr_dpo_beta: temperature β′ of `dr_dpo`.
        use_weighting: weigh pairs by how sure the policy is of both answers, WPO without its cap; the same as
            `DPOTrainer(beta=OnPolicyWeight(beta, cap=None))`. Not together with a rule.
        max_length: tokens of prompt and answer together; longer answers are cut at their end, prompts without room for
            an answer are dropped and counted. None for no limit.
        precompute_ref_log_probs: score the reference once before training; False scores it at every step.
        reference_cache: folder that keeps the reference's scores for later runs; `auto` is `DATA.refcache` beside the
            training data when they are a local file, else `betahead/reference` in the user's cache folder. None is
            `auto` for data given by path or name, and no cache for data in memory. With a folder named and
            `precompute_ref_log_probs=False`, rows are looked up, and filled in, as they come.
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
            `auto` takes the shared road wherever the model gives the same numbers on it, however little there is to
            share.
        forward_attention: what carries the attention of the shared road out: `sdpa` anywhere, `varlen` on CUDA in half
            precision, `flex`, or `auto`.
        max_batch_tokens: tokens that go through the model at once on one device; a batch with more is cut into several
            passes, which changes memory and speed and not what is learned. A pair with more goes alone. None for no
            limit. Not with FSDP or DeepSpeed, whose ranks must run the same number of passes, and not with losses that
            act on the pairs of a pass together (`dr_dpo`, `aot`, `aot_unpaired`, `sft`).
        train_sampling_strategy: `random`, `sequential` or `group_by_length`: optimizer steps of like lengths, shuffled.
        on_warning: what a guard does: `warn` says it in the log of the process, `stop` ends the run after that step.
        guards: limits of the guards by their names in `GuardLimits`, None for one that is not to look; the rest have
            their defaults.
    """

    learning_rate: float = field(default=1e-6)
    logging_steps: float = field(default=10)
    logging_nan_inf_filter: bool = field(default=False)
    remove_unused_columns: bool = field(default=False)
    report_to: str | list[str] | None = field(default="none")

    beta: float | None = None
    loss_type: str | list[str] = "sigmoid"
    loss_weights: list[float] | None = None
    label_smoothing: float = 0.0
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    ld_alpha: float | None = None
    discopop_tau: float = 0.05
    simpo_gamma: float = 0.5
    dr_dpo_beta: float = 1.0
    use_weighting: bool = False
    max_length: int | None = 1024
    precompute_ref_log_probs: bool = True
    reference_cache: str | None = None
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
    max_batch_tokens: int | None = None
    on_warning: str = "warn"
    guards: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before a device is touched.

        Raises:
            ConfigError: for a loss, smoothing, length, cache, norm or guard that cannot be used.
        """
        objective = self.objective
        self.loss_type = objective.kinds[0] if len(objective.kinds) == 1 else list(objective.kinds)
        _whole("max_length", self.max_length, 2, or_none=True)
        _whole("calibration_prompts", self.calibration_prompts, 1)
        _whole("max_batch_tokens", self.max_batch_tokens, 1, or_none=True)
        if self.max_batch_tokens is not None and objective.on_batch:
            raise ConfigError(
                f"`max_batch_tokens` must be None with `loss.kind` {objective.on_batch[0]}, which acts on all pairs of "
                f"a pass together, but is {self.max_batch_tokens} instead; choose a smaller "
                "`per_device_train_batch_size`."
            )
        if self.max_batch_tokens is not None and shards(self):
            raise ConfigError(
                f"`max_batch_tokens` must be None with FSDP or DeepSpeed, but is {self.max_batch_tokens} instead; "
                "their ranks must run the same number of passes, so choose a smaller `per_device_train_batch_size`."
            )
        if self.train_sampling_strategy not in ORDERS:
            raise ConfigError(
                f"`train_sampling_strategy` must be one of {', '.join(ORDERS)}, but is "
                f"{self.train_sampling_strategy!r} instead."
            )
        _whole("precompute_ref_batch_size", self.precompute_ref_batch_size, 1, or_none=True)
        _whole("dataset_num_proc", self.dataset_num_proc, 1, or_none=True)
        for key in ("use_weighting", "precompute_ref_log_probs", "disable_dropout", "trust_remote_code"):
            _flag(key, getattr(self, key))
        _share("max_dropped", self.max_dropped)
        check_on_warning(self.on_warning)
        GuardLimits.of(self.guards)
        check_fields(vars(self))
        check_not_for_pairs(self)
        if isinstance(self.reference_cache, os.PathLike):
            self.reference_cache = os.fspath(self.reference_cache)
        cache: Any = self.reference_cache
        if cache is not None and (not isinstance(cache, str) or cache.strip() in {"", "live"}):
            raise ConfigError(
                f"`reference_cache` must be `auto`, a folder or None, but is {cache!r} instead; a reference is scored "
                "at every step with precompute_ref_log_probs=False."
            )
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
        if self.accelerator_config is None and self.dataloader_pin_memory and not self.use_cpu:
            # Otherwise every batch waits until the device has done all that was asked of it before.
            self.accelerator_config = {"non_blocking": True}
        super().__post_init__()

    @property
    def objective(self) -> Objective:
        """The loss, or the losses with their weights.

        Raises:
            ConfigError: for losses, weights and settings that do not go together.
        """
        settings = {name: getattr(self, name) for name in DEFAULTS}
        return objective_of(self.loss_type, self.loss_weights, **settings)

    @property
    def checkpoints_activations(self) -> bool:
        """Whether the backward pass recomputes activations, under either name of the setting."""
        return bool(getattr(self, "activation_checkpointing", None) or self.gradient_checkpointing)


def _flag(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"`{key}` must be True or False, but is {value!r} instead.")


def _share(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"`{key}` must be a share of the rows, in [0, 1], but is {value!r} instead.")


def shards(args: TrainingArguments) -> bool:
    """Whether parameters or optimizer are spread over ranks, by the arguments or by the launcher."""
    flags = (os.environ.get(f"ACCELERATE_USE_{name}", "false") for name in ("FSDP", "DEEPSPEED"))
    return bool(args.fsdp or args.deepspeed) or any(flag.lower() in ("1", "true", "yes", "on") for flag in flags)


def _whole(key: str, value: Any, least: int, *, or_none: bool = False) -> None:
    if value is None and or_none:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        end = " or None" if or_none else ""
        raise ConfigError(f"`{key}` must be a whole number of at least {least}{end}, but is {value!r} instead.")
