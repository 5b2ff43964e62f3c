"""Which road a batch takes: the bundle that the collator made says it."""

import torch
from torch import nn

from betahead.beta.rule import Need
from betahead.forward.layout import Kernel
from betahead.forward.separate import separate_forward
from betahead.forward.shared import shared_forward
from betahead.types import PackedPairs, PairLogps, Pairs, PromptFeatures


def pair_forward(
    model: nn.Module,
    batch: Pairs,
    needs: frozenset[Need] = frozenset(),
    *,
    couple: bool = False,
    common: bool = False,
    kernel: Kernel = "auto",
) -> tuple[PairLogps, PromptFeatures]:
    """Log-probabilities of both answers and the prompt features, by the road that the batch is packed for.

    Args:
        model: a causal language model.
        batch: padded rows (the plain road) or trunks and branches (the shared one).
        needs: which prompt features to compute.
        couple: let gradient flow through the features.
        common: also sum over as many first tokens as both answers have.
        kernel: what carries the attention of the shared road out.

    Returns:
        (log-probabilities, features); a feature that was not asked for is None.
    """
    if isinstance(batch, PackedPairs):
        return shared_forward(model, batch, needs, couple=couple, common=common, kernel=kernel)
    return separate_forward(model, batch, needs, couple=couple, common=common)


@torch.no_grad()
def scores_without_gradient(
    model: nn.Module,
    batch: Pairs,
    needs: frozenset[Need] = frozenset(),
    *,
    common: bool = False,
    kernel: Kernel = "auto",
) -> tuple[PairLogps, PromptFeatures]:
    """`pair_forward` without gradient, for references and evaluation."""
    return pair_forward(model, batch, needs, common=common, kernel=kernel)
