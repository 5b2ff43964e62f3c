"""Losses of which no pair has its own, when the pairs of a pass lie on several ranks."""

from collections.abc import Callable

from jaxtyping import Float, Shaped
from torch import Tensor

Everyone = Callable[[Tensor], Tensor]
"""From the values of this rank's pairs to those of all ranks, through which gradient flows to its own."""


def of_all_ranks(
    loss: Callable[..., Tensor], *own: Shaped[Tensor, " pairs"], everyone: Everyone, **settings: object
) -> Float[Tensor, " pairs"]:
    """The loss of the pairs of all ranks, once for every pair of this one.

    Args:
        loss: its mean over the pairs is what one descends.
        own: what it is a function of, of this rank's pairs.
        everyone: gathers.
        settings: of the loss.

    Returns:
        The mean over all pairs of all ranks.

    Gradient:
        Into `own`, so large that the sum over ranks of the gradients of Σ own values / (pairs of all ranks) is that of
        the mean: each rank holds only its share of the derivative of every value.

    Source:
        This package; the same on several ranks as on one.
    """
    values = loss(*map(everyone, own), **settings)
    mean, pairs = values.mean(), len(own[0])
    still = mean.detach()
    return (still + (mean - still) * (len(values) / pairs)).expand(pairs)
