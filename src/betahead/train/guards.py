"""What stops a run that has gone wrong, before it goes on for nothing."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.errors import ConfigError


class StopWhenNotFinite(TrainerCallback):
    """Ends training at the first log step whose loss or gradient is no finite number.

    It looks where the log looks, so it costs no reading of the device, and the steps since the last log step are lost.

    Args:
        write: takes what was seen, before the error is raised.

    Raises:
        ConfigError: in `on_log`, with the step and what to change.
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self.write = write

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the row of a log step."""
        row = logs or {}
        for name in ("loss", "grad_norm"):
            if name in row and not math.isfinite(float(row[name])):
                self.write({"step": state.global_step, **row})
                raise _diverged(name, float(row[name]), state.global_step)


def check_finite(
    model: nn.Module, found: Mapping[str, float], step: int, write: Callable[[dict[str, Any]], None]
) -> None:
    """Look once at the end, for runs whose log never looked: at the numbers found and at every trained weight.

    Args:
        model: what was trained.
        found: losses by name.
        step: steps taken.
        write: takes what was seen, before the error is raised.

    Raises:
        ConfigError: with what is not finite and what to change.
    """
    numbers = {name: value for name, value in found.items() if not math.isfinite(value)}
    weights = [name for name, p in model.named_parameters() if p.requires_grad and not bool(p.isfinite().all())]
    if not numbers and not weights:
        return
    write({"step": step, **found, "weights": weights})
    name, value = next(iter(numbers.items())) if numbers else (weights[0], math.nan)
    raise _diverged(name, value, step)


def _diverged(name: str, value: float, step: int) -> ConfigError:
    return ConfigError(
        f"training must stay finite, but `{name}` is {value} at step {step}; lower `train.learning_rate`, clip with "
        "`train.max_grad_norm`, or use `model.dtype: float32`."
    )
