"""A controller of one β: up while more than a share δ of the margins is above the moving quantile, down while less."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from betahead.beta.batch_rule import BatchRule
from betahead.beta.card import MethodCard
from betahead.beta.head_settings import number, whole, within
from betahead.beta.plain_shaping import plain_shaping
from betahead.types import PromptFeatures, Shaping


def quantile(values: Float[Tensor, " pairs"], q: float) -> Float[Tensor, ""]:
    """The q-quantile with linear interpolation; `torch.quantile` looks at its arguments on the host.

    Args:
        values: at least one.
        q: in [0, 1].

    Source:
        Hyndman & Fan 1996, definition 7, https://doi.org/10.1080/00031305.1996.10473566.
    """
    place = q * (len(values) - 1)
    below = min(int(place), len(values) - 1)
    above = min(below + 1, len(values) - 1)
    ordered = values.sort().values
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


class QuantileController(BatchRule):
    """β ← clip(β·exp(rate·tanh(gain·(p̂ − δ)/√(δ(1 − δ)/n)))), p̂ the share of n margins that reach T.

    T is the moving (1 − δ)-quantile of the margins. A batch is weighed with the β from before it; one of a single pair,
    whose quantiles are all the same, moves neither. The factor is positive, so β is, and bounds end the drift of a
    controller whose share never meets δ.

    Args:
        initial_beta: β₀ > 0, within the bounds.
        share: δ in (0, 1), the share of margins above T that leaves β as it is.
        rate: the largest change of log β in a batch, > 0.
        gain: > 0.
        momentum: the weight of a new batch in T, in (0, 1].
        warmup: batches, at least 1, whose quantiles T begins as the mean of, and that leave β as it is.
        min_beta: lower bound, > 0.
        max_beta: upper bound.

    Raises:
        ConfigError: for a value out of range.

    Gradient:
        Into the margin alone; β is a constant.

    Source:
        S. Y. Han 2026, code without a paper, https://github.com/SeanYHan888/dynamic-dpo-v1, `dpo_loss.py`.
    """

    kind: ClassVar[str] = "quantile_controller"
    card: ClassVar[MethodCard] = MethodCard(
        title="Controller on a quantile of the margin",
        formula=(
            "T ← (1 − momentum)·T + momentum · (the (1 − δ)-quantile of h), p̂ = share of h at or above T\n"
            "β ← clip(β · exp(rate · tanh(gain · (p̂ − δ)/√(δ(1 − δ)/n))), min_beta, max_beta)"
        ),
        cost="one gather of a number a pair",
        source="S. Y. Han 2026, https://github.com/SeanYHan888/dynamic-dpo-v1",
        deviates=(
            "a lower bound above 0; T begins as the mean of the first batches' quantiles, not as the quantile of all "
            "their margins, which would have to be kept; margins of all ranks; evaluation and a batch of one pair move "
            "nothing"
        ),
        checked="code",
    )
    log_ratio: Tensor
    threshold: Tensor
    batches: Tensor

    def __init__(
        self,
        initial_beta: float = 0.1,
        share: float = 0.1,
        rate: float = 0.005,
        gain: float = 2.0,
        momentum: float = 0.05,
        warmup: int = 120,
        min_beta: float = 1e-3,
        max_beta: float = 2.0,
    ) -> None:
        super().__init__()
        self.initial_beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
        self.share = number("share", share, "in (0, 1)", 0, 1, inside=False)
        self.rate = number("rate", rate, "a positive number", 0, inside=False)
        self.gain = number("gain", gain, "a positive number", 0, inside=False)
        self.momentum = number("momentum", momentum, "in (0, 1]", 0, math.nextafter(1, 2), inside=False)
        self.warmup = whole("warmup", warmup)
        self.min_beta, self.max_beta = min_beta, max_beta
        within("initial_beta", self.initial_beta, min_beta=min_beta, max_beta=max_beta)
        self.register_buffer("log_ratio", torch.zeros(()))
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    @property
    def bounds(self) -> tuple[float, float]:
        """Where the controller ends."""
        return self.min_beta, self.max_beta

    def forward(self, features: PromptFeatures, margin: Float[Tensor, " pairs"]) -> Shaping:
        """The same β for every pair; in training it then moves."""
        beta = (self.initial_beta * self.log_ratio.exp()).to(margin.dtype)
        if self.training:
            with torch.no_grad():
                self._move(self.everyone(margin).to(self.threshold))
        return plain_shaping(margin, beta=beta)

    def _move(self, gaps: Float[Tensor, " everyone"]) -> None:
        if len(gaps) == 1:
            return
        warm = self.batches < self.warmup
        self.batches.add_(1)
        new = torch.where(warm, 1.0 / self.batches.to(gaps.dtype), self.momentum)
        self.threshold.lerp_(quantile(gaps, 1.0 - self.share), new)
        above = (gaps >= self.threshold).to(gaps.dtype).mean()
        error = (above - self.share) / math.sqrt(self.share * (1.0 - self.share) / len(gaps))
        change = torch.where(warm, 0.0, self.rate * torch.tanh(self.gain * error))
        low, high = (math.log(bound / self.initial_beta) for bound in self.bounds)
        self.log_ratio.copy_((self.log_ratio + change).clamp(low, high))

    def log_metrics(self) -> dict[str, Tensor]:
        """T, in the unit of the margin."""
        return {"beta/threshold": self.threshold}
