"""The accumulation window: in which order pairs come, in how many passes they go, and that each weighs the same."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler

from betahead.data.lengths import tokens_of_rows
from betahead.data.passes import PassCollator, padded_tokens
from betahead.errors import ConfigError
from betahead.train.arguments import DPOConfig
from betahead.train.guard_memory import memory_explained
from betahead.train.order import GroupedSampler
from betahead.train.spread import SpreadTrainer
from betahead.train.workers import WorkedTrainer


def pass_collator(collate: Callable[[list[dict[str, Any]]], Mapping[str, Any]], args: DPOConfig) -> PassCollator:
    """The collator of a road, cutting into passes.

    Raises:
        ConfigError: when tokens are to be counted and the collator does not say how many a pass has.
    """
    counts: Any = getattr(collate, "pass_tokens", None)
    if counts is None and (args.max_batch_tokens is not None or args.train_sampling_strategy == "group_by_length"):
        key = "train_sampling_strategy" if args.max_batch_tokens is None else "max_batch_tokens"
        raise ConfigError(
            f"`data_collator` must have a method pass_tokens with `{key}`, but {type(collate).__name__} has none; "
            "it takes a list of betahead.data.passes.PairTokens and returns the tokens of a pass."
        )
    return PassCollator(collate=collate, budget=args.max_batch_tokens, pass_tokens=counts or padded_tokens)


class WindowedTrainer(WorkedTrainer, SpreadTrainer):
    """`transformers.Trainer` over batches that `PassCollator` cut into passes.

    An optimizer step sees the same `per_device_train_batch_size × gradient_accumulation_steps` pairs of every rank
    whatever the budget. Passes of a micro-batch run one after another and add their gradients; only the last one of the
    window exchanges gradients between ranks, so ranks may have different numbers of passes.

    Attributes:
        counted: which pairs of an evaluation pass are measured; None for all.
    """

    data_collator: PassCollator
    counted: list[int] | None = None

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Forward and backward of every pass; the sum of their losses, detached."""
        passes = list(zip(cast("list[dict[str, Any]]", inputs["passes"]), inputs["pairs"], strict=True))
        args, step = cast("DPOConfig", self.args), self.state.global_step
        losses: list[Tensor] = []
        for number, (batch, pairs) in enumerate(passes, start=1):
            alone = nullcontext() if number == len(passes) else self.accelerator.no_sync(model)
            with memory_explained(batch, pairs, args, step), alone:
                losses.append(super().training_step(model, batch, num_items_in_batch))
        return torch.stack(losses).sum()

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor | int | None:
        """The number of pairs in the accumulation window, over all ranks; no reading of the device."""
        pairs = sum(sum(batch["pairs"]) for batch in batch_samples)
        if self.accelerator.num_processes == 1:
            return pairs
        return cast("Tensor", self.accelerator.reduce(torch.full((), pairs, device=device), reduction="sum"))

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The mean loss over the pairs of an evaluation batch; there are no labels to predict.

        Of several ranks, those whose share of the last batch is short get pairs of the first again: these do not count.
        """
        pairs = sum(inputs["pairs"])
        real = self._real_pairs(pairs)
        losses: list[Tensor] = []
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch, places in zip(inputs["passes"], inputs["places"], strict=True):
                counted = [number for number, place in enumerate(places) if place < real]
                self.counted = None if real == pairs else counted
                loss = self.compute_loss(model, cast("dict[str, Any]", self._prepare_inputs(batch)))
                losses.append(cast("Tensor", loss).detach() * (len(counted) / max(real, 1)))
        self.counted = None
        return torch.stack(losses).sum(), None, None

    def _real_pairs(self, pairs: int) -> int:
        """How many of these pairs of an evaluation batch are not there to fill it up."""
        state, ranks = self.accelerator.gradient_state, self.accelerator.num_processes
        if ranks == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return pairs
        return min(max(state.remainder - self.accelerator.process_index * pairs, 0), pairs)

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Count the tokens of every pass."""
        for batch in inputs["passes"]:
            super()._track_num_input_tokens(batch)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """The order of `train_sampling_strategy`; by length it is that of whole steps."""
        if self.args.train_sampling_strategy != "group_by_length":
            return cast("Sampler[int] | None", super()._get_train_sampler(train_dataset))
        pass_tokens = self.data_collator.pass_tokens
        rows = tokens_of_rows(cast("Dataset", self.train_dataset if train_dataset is None else train_dataset))
        args = self.args
        return GroupedSampler(
            [pass_tokens([pair]) for pair in rows],
            args.train_batch_size * args.gradient_accumulation_steps * self.accelerator.num_processes,
            seed=args.seed if args.data_seed is None else args.data_seed,
            epoch=lambda: int(self.state.epoch or 0),
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:
        """The data set's own order: what is measured does not depend on the order of training."""
        return SequentialSampler(eval_dataset) if self.accelerator.num_processes == 1 else None
