"""The trainer: `transformers.Trainer` with a preference loss, a beta rule and a reference."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from datasets import Dataset
from peft import PeftConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from betahead.beta.kl_sampling import check_measured
from betahead.beta.rule import BetaRule
from betahead.data.lengths import tokens_of_rows
from betahead.data.passes import Oversized, oversized
from betahead.data.templates import check_tokenizer
from betahead.errors import ConfigError
from betahead.forward.layout import Kernel
from betahead.forward.model import PreferenceModel
from betahead.train.adapters import with_adapter
from betahead.train.arguments import DPOConfig
from betahead.train.batch_rules import gather_for
from betahead.train.best_metric import check_best_metric
from betahead.train.calibration import calibration_for
from betahead.train.checkpoint import hidden_size_of
from betahead.train.given import check_given, check_reference_is_read, reference_model
from betahead.train.guard_finite import finite_guard_of
from betahead.train.guards import guards_of, raise_if_stopped
from betahead.train.heldout import following
from betahead.train.heldout_checks import check_held_out
from betahead.train.heldout_rows import held_apart
from betahead.train.kl_estimate import kl_estimates_for
from betahead.train.lookahead import check_foreseeable
from betahead.train.metrics import PairMetrics
from betahead.train.optimizer import (
    check_clipped_apart,
    check_schedule_knows_the_rule,
    clip_apart,
    give_rule_its_own_group,
    policy_norm,
)
from betahead.train.origin import mark_trained, warn_of_trained_reference
from betahead.train.parts import (
    causal_model,
    each,
    of_each,
    reference_for,
    rule_from,
    tokenized,
    tokenizer_for,
    without_dropout,
)
from betahead.train.resumable import ResumableTrainer
from betahead.train.road import road_of
from betahead.train.scoring import OnScoring, ReferenceScoring
from betahead.train.sizes import check_sizes
from betahead.train.steps import steps_of
from betahead.train.window import WindowedTrainer, pass_collator


class DPOTrainer(ResumableTrainer, WindowedTrainer):
    """Train a policy on preference pairs, with a β that is a number or a rule.

    Args:
        model: a causal language model, or the folder or Hub name of one.
        ref_model: the reference, or the folder or Hub name of one; None means the model as it is given, without a
            second copy in memory unless `precompute_ref_log_probs` is False and there is no adapter to turn off.
        args: settings; the defaults of `DPOConfig` when None.
        data_collator: makes batches of tokenized records; when None, that of the road that `args.forward` asks for.
        train_dataset: pairs in any layout, or tokenized records.
        eval_dataset: the same, or None.
        processing_class: the tokenizer; the one that lies with the model when None.
        callbacks: further callbacks.
        optimizers: an optimizer and a schedule to use instead of those that `args` describe.
        peft_config: train this adapter instead of the whole model; the reference is the model with it turned off.
        beta: a number or a beta rule; `args.beta` or 0.1 when None.
        on_scoring: told how far scoring the reference is; by default lines are printed, unless `args.disable_tqdm`: how
            pairs go through the model, and what was scored when the scores are cached in a folder.

    Raises:
        CacheError: for a reference cache that cannot be used.
        ConfigError: for settings, models or tokenizers that cannot be used.
        DataError: for data that cannot be used.
    """

    model: PreferenceModel

    def __init__(
        self,
        model: str | PreTrainedModel,
        ref_model: str | PreTrainedModel | None = None,
        args: DPOConfig | None = None,
        data_collator: Callable[[list[dict[str, Any]]], Mapping[str, Any]] | None = None,
        train_dataset: Dataset | Any = None,
        eval_dataset: Dataset | Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Optimizer | None, LRScheduler | None] = (None, None),
        peft_config: PeftConfig | None = None,
        beta: float | BetaRule | None = None,
        on_scoring: OnScoring | None = None,
    ) -> None:
        check_given(
            model=model,
            ref_model=ref_model,
            args=args,
            processing_class=processing_class,
            peft_config=peft_config,
            data_collator=data_collator,
        )
        args = DPOConfig(output_dir="runs/dpo") if args is None else args
        rule = rule_from(beta, args)
        policy = causal_model(model, args.model_init_kwargs, trust_remote_code=args.trust_remote_code)
        ref_model = reference_model(ref_model, args, beside=model)
        tokenizer = tokenizer_for(policy, processing_class, trust_remote_code=args.trust_remote_code)
        check_tokenizer(tokenizer)
        if args.disable_dropout:
            without_dropout(policy, ref_model)
        if ref_model is None:
            warn_of_trained_reference(policy, model, train_dataset, new_adapter=peft_config is not None)
        policy = with_adapter(policy, peft_config, args)
        check_held_out(rule, args, policy)
        train = None if train_dataset is None else tokenized(train_dataset, tokenizer, args, rule)
        held_out = each(eval_dataset, lambda data: tokenized(data, tokenizer, args, rule))
        check_sizes(policy, tokenizer, *of_each(train), *of_each(held_out))
        rule.build(hidden_size_of(policy), seed=args.seed)
        check_best_metric(args, rule, held_out)
        check_schedule_knows_the_rule(optimizers, rule)
        kernel = cast("Kernel", args.forward_attention)
        preference = PreferenceModel(policy, rule, objective=args.objective, kernel=kernel)
        check_reference_is_read(preference, ref_model, args)
        self.oversized: Oversized | None = None
        self._prefix = "eval_"
        self._metrics = {"train": PairMetrics(rule.bounds), "eval": PairMetrics(rule.bounds)}
        super().__init__(
            model=preference,
            args=args,
            data_collator=cast("Any", data_collator),
            train_dataset=cast("Any", train),
            eval_dataset=held_out,
            processing_class=tokenizer,
            callbacks=[*(callbacks or ()), guards_of(preference, args)],
            optimizers=cast("Any", optimizers),
        )
        # The loss is normalised over the accumulation window by `compute_loss` itself; older versions read one name,
        # newer ones the other.
        self.model_accepts_loss_kwargs = self.loss_is_scaled_for_ga = self.can_return_loss = True
        gather_for(preference, self.accelerator, args)
        check_clipped_apart(self.accelerator, rule, args)
        # Only now are the models where they will compute.
        self.road = road_of(policy, ref_model, train, args, self.accelerator, shown=on_scoring is None)
        self.collate = data_collator or self.road.collator(cast("int", tokenizer.pad_token_id))
        self.data_collator = pass_collator(self.collate, args)
        self.reference = reference_for(preference, ref_model, args, new_adapter=peft_config is not None)
        preference.reference_head = self.reference.head
        self.scoring = ReferenceScoring(
            self.reference, preference, self.collate, args, self.accelerator, train_dataset, on_scoring
        )
        if self.scoring.as_they_come:
            self.data_collator = pass_collator(self.scoring.collator, args)
        scored, followed = held_apart(self._with_reference(train, made=False), rule.held_out, args.seed)
        self.train_dataset = cast("Any", scored)
        self.finite = finite_guard_of(self, tokenizer, scored)
        self.eval_dataset = each(held_out, lambda pairs: self._with_reference(pairs, made=False))
        self.held_out = following(preference, followed, self.data_collator, self._completed, args, self.accelerator)
        with self.accelerator.autocast():
            self.calibration = calibration_for(policy, self.reference, rule, scored, self.data_collator, args)
        self.kl_estimates = kl_estimates_for(rule, policy, self.reference, tokenizer, train, args, self.accelerator)
        if self.kl_estimates is not None:
            self.add_callback(self.kl_estimates)
        if train is not None and args.max_batch_tokens is not None:
            self.oversized = oversized(tokens_of_rows(train), args.max_batch_tokens, self.data_collator.pass_tokens)

    @property
    def rule(self) -> BetaRule:
        """The beta rule."""
        return self.model.rule

    @property
    def settings(self) -> DPOConfig:
        """The training arguments, with the type they were given with."""
        return cast("DPOConfig", self.args)

    def _with_reference(self, dataset: Dataset | None, *, made: bool = True) -> Dataset | None:
        """The data set with the reference's columns, unless they are there or each batch is scored as it comes."""
        return self.scoring.columns(dataset, trained=self.state.global_step > 0 if made else None)

    def _completed(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with the reference's columns."""
        return self.scoring.completed(batch, trained=self.state.global_step > 0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The summed loss over the number of pairs in the accumulation window, so that every pair weighs the same.

        Without `num_items_in_batch` (evaluation) it is the mean over the batch.
        """
        inputs = self._completed(inputs)
        outputs: dict[str, Tensor] = model(**inputs)
        if self.counted is not None:
            outputs = {name: values[self.counted] for name, values in outputs.items()}
        losses = outputs.pop("losses")
        if model.training and num_items_in_batch is not None:
            self.finite.saw(inputs, losses, outputs)
            if self.held_out is not None:
                self.held_out.saw(inputs, num_items_in_batch)
        self._metrics["train" if model.training else "eval"].add(outputs)
        if num_items_in_batch is None:
            loss = losses.mean() if len(losses) else losses.sum()
        else:
            # DDP averages gradients over ranks, while the count is over all of them.
            loss = losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The loss and pair metrics of held-out pairs, in any layout or tokenized.

        Raises:
            ConfigError: when new data would have to be scored by a reference that has been trained since.
        """
        records: Any = eval_dataset
        if not isinstance(records, str):  # `transformers` calls this with the name of one of several data sets
            tokenizer = cast("Any", self.processing_class)
            records = each(
                records, lambda pairs: self._with_reference(tokenized(pairs, tokenizer, self.settings, self.rule))
            )
        self._prefix = f"{metric_key_prefix}_"
        measured = super().evaluate(cast("Any", records), ignore_keys, metric_key_prefix)
        self.scoring.finish()
        return measured

    def predict(self, *arguments: Any, **keywords: Any) -> Any:
        """Refused with a ConfigError: pairs have no labels to predict."""
        raise ConfigError("`predict` has nothing to return for preference pairs; use `evaluate(pairs)` instead.")

    def train(self, *arguments: Any, **keywords: Any) -> Any:
        """Train as `transformers.Trainer.train` does; see `ResumableTrainer.train` for `resume_from_checkpoint`.

        Raises:
            ConfigError: without pairs to train on, with too few for a step or for what the rule waits for, or for a
                checkpoint that cannot be resumed.
            TrainingError: numbers that are not finite, a device that is full, or a guard that was to stop the run.
        """
        if self.train_dataset is None:
            raise ConfigError("`train_dataset` must be given to train, but is None instead; give DPOTrainer pairs.")
        check_measured(self.rule.kl_sampling, steps_of(len(self.train_dataset), self.settings))
        trained = super().train(*arguments, **keywords)
        self.scoring.finish()
        raise_if_stopped(self.callback_handler.callbacks)
        return trained

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the pairs since the last line showed, read from the device once."""
        training = self.model.training
        followed = self.held_out.log_metrics() if training and self.held_out is not None else {}
        of_rule = self.model.within(self.rule.log_metrics)
        found = self._metrics["train" if training else "eval"].reduce(
            lambda t: cast("Tensor", self.accelerator.gather(t)), also=of_rule | followed
        )
        logs.update(found if training else {self._prefix + name: value for name, value in found.items()})
        super().log(logs, start_time)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """The optimizer that `args` name, with the rule's parameters in a group of their own."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer() if model is None else super().create_optimizer(model)
        give_rule_its_own_group(optimizer, self.rule, self.rule.learning_rate, fresh=fresh)
        if self.held_out is not None:
            check_foreseeable(optimizer)
        return optimizer

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Clip the policy, whose norm is the one that is logged."""
        return self._policy_norm(model, self.args.max_grad_norm)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """The policy's norm before clipping; called before every step, so the rule is clipped here, apart."""
        norm = self._policy_norm(model, float("inf")) if grad_norm is None else grad_norm
        if self.held_out is not None:
            self.held_out.set_gradient(cast("Optimizer", self.optimizer), step=self.state.global_step, norm=grad_norm)
        inner = cast("PreferenceModel", self.accelerator.unwrap_model(model))
        self.finite.norms(norm, clip_apart(inner.rule.parameters(), self.settings.head_max_grad_norm))
        mark_trained(inner.policy)
        inner.step_taken(lambda t: cast("Tensor", self.accelerator.reduce(t, reduction="sum")))
        return norm

    def _policy_norm(self, model: nn.Module, max_norm: float) -> Tensor:
        inner = cast("PreferenceModel", self.accelerator.unwrap_model(model))
        return policy_norm(self.accelerator, inner.policy, max_norm)
