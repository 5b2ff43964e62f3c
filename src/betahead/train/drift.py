"""A level of β that moves by a rule of its own, without bounds, is watched: it can go anywhere, step by step."""

import logging
import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.beta.rule import BetaRule

logger = logging.getLogger(__name__)

FACTOR = 10.0


def drift_watch(rule: BetaRule) -> list[TrainerCallback]:
    """What watches the level of a rule that nothing holds; empty for one that has none."""
    return [] if rule.drifts_from is None else [WarnOfDrift(rule.kind, rule.drifts_from)]


class WarnOfDrift(TrainerCallback):
    """Says so in the log of the process when `beta/base` has left another factor of 10 around where it began.

    It looks where the log looks, so it costs no reading of the device.

    Args:
        kind: of the rule.
        began: the level before the first step.
    """

    def __init__(self, kind: str, began: float) -> None:
        self.kind = kind
        self.began = began
        self.told = 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at the row of a log step."""
        base = (logs or {}).get("beta/base")
        if base is None or not base > 0.0:
            return
        factors = int(abs(math.log(base / self.began)) / math.log(FACTOR) + 1e-9)
        if factors > self.told:
            self.told = factors
            logger.warning(
                "beta.kind %s: its level of β has gone from %.3g to %.3g by step %d, and nothing holds it; set "
                "`beta.bounds`, or a smaller perturbation.",
                self.kind,
                self.began,
                base,
                state.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        """How much has been told, for a checkpoint."""
        return {"told": self.told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Tell no more than an uninterrupted training would."""
        self.told = state["told"]
