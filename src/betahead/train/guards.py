"""Watches over a run by its log: what goes wrong slowly is said once, or stops the run."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from betahead.errors import TrainingError
from betahead.forward.model import PreferenceModel
from betahead.train.arguments import DPOConfig
from betahead.train.guard_limits import GuardLimits, OnWarning
from betahead.train.guard_watches import AtBound, Constant, Falling, FarAway, LevelDrift, PromptDrift, Watch
from betahead.train.last_checkpoint import EndsWithCheckpoint
from betahead.train.parts import drops_out

logger = logging.getLogger(__name__)

_KINDS: dict[str, type[Watch]] = {
    kind.name: kind for kind in (AtBound, Constant, Falling, FarAway, PromptDrift, LevelDrift)
}
_STOPPED = "stopped_by"
"""The entry of a checkpoint that names the watches which stop training there; no watch is called so."""
_HALF = 1000.0
"""By how much rounding in half precision exceeds that of float32 in a sum of log-probabilities, as an order."""


class Guards(EndsWithCheckpoint):
    """Looks at every line of the training log, which costs no reading of the device, and speaks of a thing once.

    What it has seen is part of a checkpoint. With `stop`, training ends after the step of the line with a checkpoint,
    whatever `save_strategy` says, and `raise_if_stopped` raises all that was to be said; a resumed run goes on from
    there and says by what it was stopped.

    Args:
        watches: settings of each watch by its name, and what it has seen.
        first_margin: nats by which policy and reference may differ before the first step, or None not to look.
        on_warning: `warn` or `stop`.
    """

    def __init__(
        self,
        watches: dict[str, dict[str, Any]],
        first_margin: float | None = None,
        on_warning: OnWarning = "warn",
    ) -> None:
        super().__init__()
        self.watches = {name: _KINDS[name](**settings) for name, settings in watches.items()}
        self.first_margin = first_margin
        self.on_warning: OnWarning = on_warning
        self._stopped_by: dict[str, str] = {}
        self._stopped_before: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """What each watch has seen, and which of them stop training here, for a checkpoint."""
        seen: dict[str, Any] = {name: asdict(watch) for name, watch in self.watches.items()}
        return seen | ({_STOPPED: list(self._stopped_by)} if self._stopped_by else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the limits stay those of this run."""
        self._stopped_before = list(state.get(_STOPPED, []))
        for name, seen in state.items():
            own = self.watches.get(name)
            if own is not None:
                limits: dict[str, Any] = {"limit": own.limit, "patience": own.patience}
                self.watches[name] = _KINDS[name](**{**seen, **limits})

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Nothing has stopped this training yet; what stopped it before is said, because it may not do so again."""
        self._stopped_by, self.saved_at = {}, None
        for name in self._stopped_before if state.is_world_process_zero else ():
            once = _KINDS[name].speaks_once
            logger.warning(
                "resume: the run was stopped by %s at step %d; that guard has spoken and %s",
                *(name, state.global_step, "does not stop this run again" if once else "speaks at its next power"),
            )
        self._stopped_before = []

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look at the line of a log step."""
        if logs is None or "loss" not in logs:
            return
        going_on = not self._stopped_by
        for name, watch in self.watches.items():
            sentence = watch.look(logs, state.global_step)
            if sentence is None:
                continue
            if self.on_warning == "stop":
                self._stopped_by[name] = sentence
            elif state.is_world_process_zero:
                logger.warning("%s: %s", name, sentence)
        if self._stopped_by and going_on:
            self.end(args, state, control)

    def first_step(self, farthest: float, speaks: bool = True) -> None:
        """Hear how far policy and reference are apart before the first step, in nats; one process speaks of it.

        Raises:
            TrainingError: when they are too far apart and warnings are to stop the run.
        """
        if self.first_margin is None or farthest <= self.first_margin:
            return
        sentence = (
            f"first_margin: policy and reference must agree before the first step, but a margin is {farthest:.3g} nats "
            f"(limit {self.first_margin:g}); check that `ref_model`, or the reference's columns of the data, come from "
            "the weights that training starts from, or set `guards: {first_margin: null}` where another reference is "
            "meant."
        )
        if self.on_warning == "stop":
            raise TrainingError(sentence)
        if speaks:
            logger.warning(sentence)

    def finish(self) -> None:
        """Say why the run was stopped, if it was.

        Raises:
            TrainingError: with the sentence of every guard that spoke of the line.
        """
        if self._stopped_by:
            said = " ".join(f"{name}: {sentence}" for name, sentence in self._stopped_by.items())
            raise TrainingError(f"{said} (`on_warning` is stop; step {self.saved_at} has a checkpoint)")


def raise_if_stopped(callbacks: Sequence[TrainerCallback]) -> None:
    """Let the guards among callbacks say why they stopped a run.

    Raises:
        TrainingError: see `Guards.finish`.
    """
    for one in callbacks:
        if isinstance(one, Guards):
            one.finish()


def guards_of(preference: PreferenceModel, args: DPOConfig) -> Guards:
    """The guards of what a run has: a rule without bounds has none to lie on.

    Args:
        preference: policy, rule and losses.
        args: settings, with the limits.
    """
    limits, rule, objective = GuardLimits.of(args.guards), preference.rule, preference.objective
    compares = objective.needs_reference
    also: dict[str, dict[str, Any]] = {"constant": {}, "falling": {}, "kl": {}, "prompt_drift": {}}
    there = {
        "constant": rule.reads in ("prompt", "pair"),
        "falling": compares,
        "kl": compares or rule.kl_sampling is not None,
        "prompt_drift": rule.couple,
    }
    also = {name: settings for name, settings in also.items() if there[name]}
    if rule.bounds is not None:
        also["at_bound"] = {"bounds": rule.bounds}
    if rule.drifts_from is not None:
        also["level_factor"] = {"kind": rule.kind, "began": rule.drifts_from}
    watches = {
        name: {"limit": getattr(limits, name), "patience": limits.patience, **settings}
        for name, settings in also.items()
        if getattr(limits, name) is not None
    }
    return Guards(watches, _first_margin(preference, limits.first_margin, args), cast("OnWarning", args.on_warning))


def _first_margin(preference: PreferenceModel, limit: float | None, args: DPOConfig) -> float | None:
    """By how much policy and reference may differ at the start, or None where they do without any mistake."""
    objective, policy = preference.objective, preference.policy
    # Margins of the policy alone are not zero at the start, nor are those that dropout has touched.
    if limit is None or not objective.main.needs_reference or objective.margin == "policy_means" or drops_out(policy):
        return None
    half = args.bf16 or args.fp16 or any(p.dtype.itemsize < 4 for p in policy.parameters())
    return _HALF * limit if half else limit
