"""Rules and losses that read the batch: every rank must see the whole of it, and nothing may cut it."""

from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from betahead.beta.batch_rule import BatchRule
from betahead.beta.controls import ControlledBeta
from betahead.beta.rule import BetaRule
from betahead.errors import ConfigError
from betahead.forward.model import PreferenceModel
from betahead.train.arguments import DPOConfig


def gather_for(preference: PreferenceModel, accelerator: Accelerator, args: DPOConfig) -> None:
    """Let a rule and losses that read the batch see the pairs of all ranks.

    Their batch is the micro-batch over all ranks, as its authors have it: `per_device_train_batch_size` × ranks pairs.

    Raises:
        ConfigError: when a token budget would cut the batch, or the batch is one pair.
    """
    batch_rules = [one for one in preference.rule.modules() if isinstance(one, BetaRule) and one.reads == "batch"]
    statistics = [one for one in batch_rules if not isinstance(one, ControlledBeta)]
    if statistics and args.max_batch_tokens is not None:
        raise ConfigError(
            f"`max_batch_tokens` must be None with a rule that reads the batch, but is {args.max_batch_tokens} "
            f"instead; it would cut the batch that `beta.kind: {statistics[0].kind}` takes its statistics of."
        )
    ranks, rank = accelerator.num_processes, accelerator.process_index
    if statistics and args.per_device_train_batch_size * ranks == 1:
        raise ConfigError(
            "`per_device_train_batch_size` must be at least 2 on one process with a rule that reads the batch, but is "
            f"1 instead; `beta.kind: {statistics[0].kind}` takes statistics of the batch, and one pair has none."
        )
    if ranks > 1:

        def everyone(of: Tensor) -> Tensor:
            parts = list(cast("Tensor", accelerator.gather(of.detach())).chunk(ranks))
            parts[rank] = of
            return torch.cat(parts)

        preference.everyone = everyone
        for one in statistics:
            one.gathered = lambda of: cast("Tensor", accelerator.gather(of))
            if isinstance(one, BatchRule):
                one.own = lambda of: of.chunk(ranks)[rank]
