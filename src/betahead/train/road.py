"""The road that pairs take through policy and reference of a trainer."""

import logging
from typing import cast

from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel

from betahead.data.lengths import tokens_of_rows
from betahead.forward.choice import ForwardKind, Road, road_for
from betahead.forward.layout import Kernel
from betahead.forward.model import Policy
from betahead.train.arguments import DPOConfig

logger = logging.getLogger(__name__)


def road_of(policy: Policy, ref_model: PreTrainedModel | None, train: Dataset | None, args: DPOConfig) -> Road:
    """How pairs go through policy and reference; a reference of its own must be able to go the same way."""
    kind, kernel = cast("ForwardKind", args.forward), cast("Kernel", args.forward_attention)
    pairs = None if train is None else tokens_of_rows(train)
    road = road_for(policy, kind, pairs=pairs, kernel=kernel)
    if ref_model is not None and road.kind == "shared":
        road = road_for(nn.Module.to(ref_model, args.device), kind, pairs=pairs, kernel=kernel)
    (logger.warning if road.reason else logger.info)("forward: %s", road.line())
    return road
