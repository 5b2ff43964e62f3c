"""What a log line says of the pairs since the last one, kept on the device and read once.

Names are TRL's where TRL has the quantity. Rewards are β·log-ratio, so they cannot be compared between methods; the
margin in nats can.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

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
    "logratios/chosen",
    "logratios/rejected",
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
            shown["chosen_rewards"].double() / beta,
            shown["rejected_rewards"].double() / beta,
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
        # Of no pairs, which a rank may have, nothing is the least.
        edge = beta.new_full((1,), math.inf)
        least = torch.stack([torch.cat([beta, edge]).min(), torch.cat([-beta, edge]).min()])
        self._sums = sums if self._sums is None else self._sums + sums
        self._least = least if self._least is None else torch.minimum(self._least, least)

    def state_dict(self) -> dict[str, Any]:
        """What this rank has added since the last line, for a checkpoint."""
        return {"sums": self._sums, "least": self._least, "log_ppl": self._log_ppl}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on adding to what `state_dict` gave."""
        sums, least = (None if state[name] is None else state[name].to(device) for name in ("sums", "least"))
        self._sums, self._least, self._log_ppl = sums, least, state["log_ppl"]

    def reduce(self, gather: Gather, also: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """The means over all pairs of all ranks since the last call, and a fresh start; empty when there were none.

        The device is read once.

        Args:
            gather: stacks a [1, n] tensor of every rank.
            also: scalars that are the same on every rank, to be read with the rest.
        """
        if self._sums is None or self._least is None:
            return {}
        also = also or {}
        ranks = gather(torch.cat([self._sums, self._least.double()]).unsqueeze(0))
        scalars = [value.detach().double().reshape(1) for value in also.values()]
        read = torch.cat([ranks[:, :-2].sum(dim=0), ranks[:, -2:].min(dim=0).values, *scalars]).tolist()
        self._sums = self._least = None
        found, others = read[: len(read) - len(also)], read[len(read) - len(also) :]
        *values, log_beta, log_ppl, known, pairs, beta_square, least, most = found
        metrics = {name: value / pairs for name, value in zip(_SUMS, values, strict=True)}
        mean = metrics["beta/mean"]
        metrics["beta/std"] = max(beta_square / pairs - mean**2, 0.0) ** 0.5
        metrics["beta/min"], metrics["beta/max"] = least, -most
        metrics["beta/level"] = math.exp(log_beta / pairs)
        if self._log_ppl and known > 0:
            metrics["prompt/log_ppl"] = log_ppl / known
        return metrics | dict(zip(also, others, strict=True))
