"""MallowsPO-θ: where the reference is sure of what comes next, preferences are held to count for more."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number
from betahead.beta.plain_shaping import plain_shaping
from betahead.beta.rule import BetaRule, Need, Reads
from betahead.types import PromptFeatures, Shaping

_LEAST, _MOST = 1e-4, 1.0 - 1e-4


class DispersionBeta(BetaRule):
    """β_i = β · κ · (−log H_i), H_i the reference's mean next-token entropy on both answers, as a share of log |V|.

    −log H_i estimates the dispersion of preferences: it is large where the reference writes almost deterministically
    and 0 where it draws tokens evenly. The reference does not learn, so that neither does β.

    Args:
        beta: KL weight, > 0.
        scale: κ > 0; None for the one that makes κ · (−log H) 1 on average over the training pairs.

    Raises:
        ConfigError: for a value out of range.

    Source:
        Chen et al. 2025, MallowsPO, section 4.1, https://arxiv.org/abs/2405.14953.

    Deviates:
        H is held between 1e-4 and 1 − 1e-4, without which a deterministic reference would make β infinite and an even
        one 0. With `loss.kind: ipo` the authors' loss of a pair is ours times (β_i/β)².
    """

    kind: ClassVar[str] = "mallows"
    reads: ClassVar[Reads] = "pair"
    card: ClassVar[MethodCard] = MethodCard(
        title="MallowsPO-θ",
        formula=(
            "β_i = β · κ · (−log H_i), with κ · (−log H) 1 on average over the training pairs\n"
            "H_i = (mean_t H(π_ref(·|x, y_w,<t)) + mean_t H(π_ref(·|x, y_l,<t))) / (2·log |V|)"
        ),
        cost="the LM head on the answers' tokens once more when the reference is scored; kept in its cache",
        source="Chen et al. 2025, MallowsPO, https://arxiv.org/abs/2405.14953",
        deviates=(
            "H is held between 1e-4 and 1 − 1e-4, where β would be infinite or 0. With loss.kind: ipo the authors' "
            "loss of a pair is ours times (β_i/β)²."
        ),
        checked="code",
    )
    of_reference: frozenset[Need] = frozenset({Need.ENTROPY})
    mean: Tensor

    def __init__(self, beta: float = 0.1, scale: float | None = None) -> None:
        super().__init__()
        self.beta = number("beta", beta, "a positive number", 0, inside=False)
        self.scale = None if scale is None else number("scale", scale, "a positive number or None", 0, inside=False)
        self.register_buffer("mean", torch.ones(()))

    @property
    def needs(self) -> frozenset[Need]:
        """What the reference says of the whole vocabulary along both answers."""
        return frozenset({Need.PAIR, Need.ENTROPY})

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"beta": self.beta, "scale": self.scale}

    @torch.no_grad()
    def calibrate_entropy(self, entropy: Float[Tensor, " pairs"]) -> None:
        """Take the mean of −log H over training pairs, which a scale of its own leaves alone."""
        if self.scale is None:
            self.mean.copy_(_dispersion(entropy).mean())

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """β of every pair."""
        assert features.pair is not None and features.pair.reference_entropy is not None
        dispersion = _dispersion(features.pair.reference_entropy.to(margin.dtype))
        scaled = dispersion / self.mean.to(margin.dtype) if self.scale is None else self.scale * dispersion
        return plain_shaping(margin, beta=self.beta * scaled)

    def log_metrics(self) -> dict[str, Tensor]:
        """κ."""
        return {"beta/scale": 1.0 / self.mean if self.scale is None else torch.full_like(self.mean, self.scale)}


def _dispersion(entropy: Tensor) -> Tensor:
    return -entropy.clamp(_LEAST, _MOST).log()
