"""The rule of plain DPO: one β for all pairs."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping


class FixedBeta(BetaRule):
    """The same β for every pair, target 0, weight 1, penalty 0.

    Args:
        beta: KL weight, > 0; for the IPO link its τ.

    Raises:
        ConfigError: when β is not a positive finite number.

    Source:
        Rafailov et al. 2023, https://arxiv.org/abs/2305.18290.
    """

    kind: ClassVar[str] = "fixed"
    reads: ClassVar[Reads] = "nothing"
    card: ClassVar[MethodCard] = MethodCard(
        title="DPO",
        formula="β_i = β",
        cost="nothing",
        source="Rafailov et al. 2023, https://arxiv.org/abs/2305.18290",
        checked="code",
    )

    def __init__(self, beta: float = 0.1) -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)

    @property
    def needs(self) -> frozenset[Need]:
        """Nothing."""
        return frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"beta": self.beta}

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The constant shaping, on the margin's device and in its dtype."""
        del features
        zeros = torch.zeros_like(margin)
        return Shaping(beta=zeros + self.beta, target=zeros, weight=zeros + 1.0, penalty=zeros)
