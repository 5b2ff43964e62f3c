"""A model as it is now, kept while the model learns, without a second copy of what stays as it is."""

from copy import deepcopy
from typing import TypeVar

from torch import nn

_M = TypeVar("_M", bound=nn.Module)


def frozen_copy(model: _M) -> _M:
    """A model of its own with the same numbers, of which none will learn.

    Parameters that are trained are copied; frozen ones and buffers are the model's own, in the same memory. Of a model
    with adapters that is a second set of adapters around one set of weights; of a model that is trained as a whole,
    a whole copy.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    shared = {id(tensor): tensor for tensor in (*frozen, *model.buffers())}
    return deepcopy(model, shared).requires_grad_(False)
