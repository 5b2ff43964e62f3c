"""A shaping without penalty, from numbers or vectors."""

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.types import Shaping


def plain_shaping(
    margin: Float[Tensor, " pairs"],
    *,
    beta: float | Tensor,
    target: float | Tensor = 0.0,
    weight: float | Tensor = 1.0,
) -> Shaping:
    """A shaping without penalty, every slot a vector over the pairs of the margin.

    Args:
        margin: h, for number, device and dtype of the pairs.
        beta: one number, or one for each pair; target and weight likewise.

    Source:
        The equation of this package, `losses/preference.py`.
    """
    zeros = torch.zeros_like(margin)
    return Shaping(beta=zeros + beta, target=zeros + target, weight=zeros + weight, penalty=zeros)
