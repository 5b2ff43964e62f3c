"""The road that pairs take through policy and reference of a trainer."""

import logging
from typing import cast

from accelerate import Accelerator
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from betahead.data.lengths import tokens_of_rows
from betahead.forward.choice import ForwardKind, Road, road_for
from betahead.forward.layout import Kernel
from betahead.forward.model import Policy
from betahead.train.arguments import DPOConfig

logger = logging.getLogger(__name__)


def road_of(
    policy: Policy,
    ref_model: PreTrainedModel | None,
    train: Dataset | None,
    args: DPOConfig,
    accelerator: Accelerator,
    *,
    shown: bool,
) -> Road:
    """How pairs go through policy and reference; a reference of its own must be able to go the same way.

    Args:
        policy: the model that is trained.
        ref_model: the reference, where it is another model.
        train: tokenized records, or None.
        args: settings.
        accelerator: knows the precision of the passes.
        shown: print the line that says it, unless `disable_tqdm`; a reason against the shared road is always logged.
    """
    kind, kernel = cast("ForwardKind", args.forward), cast("Kernel", args.forward_attention)
    pairs = None if train is None else tokens_of_rows(train)
    with accelerator.autocast():
        road = road_for(policy, kind, pairs=pairs, kernel=kernel)
        if ref_model is not None and road.kind == "shared":
            road = road_for(nn.Module.to(ref_model, args.device), kind, pairs=pairs, kernel=kernel)
    if road.declined is not None:
        logger.warning("forward.attention: auto computes masked attention, because varlen %s", road.declined)
    if road.reason is not None:
        logger.warning("forward: %s", road.line())
    elif shown and not args.disable_tqdm and args.process_index == 0:
        print(f"forward    {road.line()}")
    return road
