"""What a log line says of the pairs since the last one, kept on the device and read once.

Names are TRL's where TRL has the quantity. Rewards are β·log-ratio, so they cannot be compared between methods; the
margin in nats can.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Gather = Callable[[Tensor], Tensor]

_SUMS = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
    "margins/nats",
    "beta/mean",
    "beta/at_bound",
    "penalty/mean",
)
PAIR_METRICS = (*_SUMS, "beta/std", "beta/min", "beta/max", "beta/level")
"""The names that every evaluation gives."""


class PairMetrics:
    """Running sums over pairs.

    Args:
        bounds: the interval of β, for the share of pairs on it; None for a rule without bounds.
    """

    def __init__(self, bounds: tuple[float, float] | None) -> None:
        self.bounds = bounds
        self._sums: Tensor | None = None
        self._least: Tensor | None = None
        self._log_ppl = False

    def add(self, shown: Mapping[str, Tensor]) -> None:
        """Add the pairs of one forward pass: the detached tensors that `PreferenceModel` returns."""
        beta = shown["beta"].float()
        margins = shown["chosen_rewards"] - shown["rejected_rewards"]
        at_bound = torch.zeros_like(beta)
        if self.bounds is not None:
            low, high = self.bounds
            at_bound = ((beta <= low * (1 + 1e-6)) | (beta >= high * (1 - 1e-6))).float()
        known = shown.get("has_ppl", torch.full_like(beta, float("log_ppl" in shown)))
        columns = [
            shown["chosen_rewards"],
            shown["rejected_rewards"],
            (margins > 0).float(),
            margins,
            shown["chosen_logps"],
            shown["rejected_logps"],
            shown["margin"],
            beta,
            at_bound,
            shown["penalty"],
            beta.log(),
            shown.get("log_ppl", torch.zeros_like(beta)) * known,
            known,
            torch.ones_like(beta),
        ]
        self._log_ppl = "log_ppl" in shown
        # Moments of β in float64: a small spread around a large mean must not drown in rounding.
        block = torch.stack([c.double() for c in columns])
        sums = torch.cat([block.sum(dim=1), beta.double().square().sum().reshape(1)])
        least = torch.stack([beta.min(), -beta.max()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._least = least if self._least is None else torch.minimum(self._least, least)

    def reduce(self, gather: Gather) -> dict[str, float]:
        """The means over all pairs of all ranks since the last call, and a fresh start; empty when there were none.

        Args:
            gather: stacks a [1, n] tensor of every rank.
        """
        if self._sums is None or self._least is None:
            return {}
        sums = gather(self._sums.unsqueeze(0)).sum(dim=0).tolist()
        least = gather(self._least.unsqueeze(0)).min(dim=0).values.tolist()
        self._sums = self._least = None
        *values, log_beta, log_ppl, known, pairs, beta_square = sums
        metrics = {name: value / pairs for name, value in zip(_SUMS, values, strict=True)}
        mean = metrics["beta/mean"]
        metrics["beta/std"] = max(beta_square / pairs - mean**2, 0.0) ** 0.5
        metrics["beta/min"], metrics["beta/max"] = least[0], -least[1]
        metrics["beta/level"] = float(torch.tensor(log_beta / pairs, dtype=torch.float64).exp())
        if self._log_ppl and known > 0:
            metrics["prompt/log_ppl"] = log_ppl / known
        return metrics
