"""Rules of every kind with settings under which their state moves, and the comparison of two trainings bit by bit."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import readings
import tiny
import torch
from datasets import Dataset
from torch import Tensor
from transformers import TrainerCallback

from betahead.beta.control_levels import FlippedBeta, MatchedBeta, NoiseBeta
from betahead.beta.controls import PermutedBeta
from betahead.beta.epsilon_dpo import PerturbedBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.given import GivenBeta
from betahead.beta.kl_controller import KLController
from betahead.beta.learned import LearnedBeta
from betahead.beta.madpo import RewardMarginWeight
from betahead.beta.mallows import DispersionBeta
from betahead.beta.odpo import OffsetTarget
from betahead.beta.rule import BetaRule
from betahead.beta.wpo import OnPolicyWeight
from betahead.train.randomness import random_states
from betahead.train.trainer import DPOTrainer

_SAMPLED = {"kl_every": 2, "kl_prompts": 3, "kl_tokens": 4}
_CLOCK = ("runtime", "samples_per_second", "steps_per_second")


def _learned(**settings: Any) -> Callable[[], BetaRule]:
    return lambda: LearnedBeta(**({"net": "mlp", "learning_rate": 0.05} | settings))


RULES: dict[str, Callable[[], BetaRule]] = {
    "fixed": lambda: FixedBeta(0.2),
    "learned": _learned(learning="joint", prior_on="level"),
    "learned/each": _learned(learning="joint", prior_on="each", couple=True),
    "learned/perspective": _learned(learning="perspective", ppl_exponent="learned"),
    "learned/direct": _learned(learning="perspective", regulariser="linear", form="direct"),
    "learned/reference": _learned(learning="perspective", ppl_from="reference"),
    "learned/transformer": _learned(learning="perspective", net="transformer"),
    "learned/none": lambda: LearnedBeta(learning="none"),
    "learned/answers": _learned(learning={"kind": "budget", "target_kl": 2.0, "kl_from": "answers"}),
    "learned/samples": _learned(learning={"kind": "budget", "target_kl": 2.0, **_SAMPLED}),
    "learned/heldout": _learned(
        learning={"kind": "heldout", "held_out_share": 0.25, "held_out_pairs": 3, "held_out_every": 2}
    ),
    "given": GivenBeta,
    "odpo": OffsetTarget,
    "madpo": RewardMarginWeight,
    "wpo": lambda: OnPolicyWeight(0.2),
    "mallows": DispersionBeta,
    "epsilon_dpo": PerturbedBeta,
    **{kind: (lambda kind=kind: readings.lively(kind)) for kind in readings.RULES},
    "kl_controller": lambda: KLController(target_kl=2.0, kl_from="answers"),
    "kl_controller/samples": lambda: KLController(target_kl=2.0, **_SAMPLED),
    "permuted": lambda: PermutedBeta(LearnedBeta(learning_rate=0.05)),
    "noise": lambda: NoiseBeta(LearnedBeta(learning_rate=0.05)),
    "flipped": lambda: FlippedBeta(LearnedBeta(learning_rate=0.05)),
    "matched": lambda: MatchedBeta(LearnedBeta(learning_rate=0.05)),
}
"""Rules by kind, with what varies of it behind a stroke."""


def pairs(count: int, seed: int = 0) -> Dataset:
    """Pairs with every column that a rule reads."""
    made = tiny.pairs(count, seed=seed)
    rows = range(len(made))
    made = made.add_column("reward_margin", [0.3 * (i % 5) - 0.5 for i in rows])
    made = made.add_column("strength", [0.2 + 0.1 * (i % 4) for i in rows])
    return made.add_column("given_beta", [0.1 + 0.05 * (i % 6) for i in rows])


class AtTheEnd(TrainerCallback):
    """Notes the states of generators when training ends: what follows may draw as it likes.

    Not that of Python's, from which the type checker of the tests draws which item of a list it looks at.
    """

    states: dict[str, Any] | None = None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.states = {name: state for name, state in random_states(args.device).items() if name != "python"}


def record(trainer: DPOTrainer) -> dict[str, Any]:
    """Everything that a training has come to, apart from the clock's part of its log."""
    return {
        "log": [without_clock(row) for row in trainer.state.log_history],
        "weights": {name: value.clone() for name, value in trainer.model.state_dict().items()},
        "optimizer": trainer.optimizer.state_dict(),
        "schedule": trainer.lr_scheduler.state_dict(),
        "random": [one.states for one in trainer.callback_handler.callbacks if isinstance(one, AtTheEnd)],
    }


def without_clock(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a log by name, without what the clock decides."""
    return {name: row[name] for name in sorted(row) if not name.endswith(_CLOCK)}


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in nested state by its place, such that what differs by as much as a bit is unequal."""
    if isinstance(value, Mapping):
        yield f"{place}: keys", list(value)
        for key, inner in value.items():
            yield from leaves(inner, f"{place}/{key}")
    elif isinstance(value, list | tuple):
        yield f"{place}: {type(value).__name__}", len(value)
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{place}/{number}")
    elif isinstance(value, Tensor):
        bits = value.detach().contiguous().reshape(-1).view(torch.uint8) if value.numel() else value
        yield place, (value.dtype, tuple(value.shape), bits.tolist())
    elif isinstance(value, np.ndarray):
        yield place, (value.dtype, value.shape, value.tobytes())
    else:
        yield place, repr(value)


def differences(one: Any, other: Any) -> list[str]:
    """Where two nested values differ by as much as a bit."""
    mine, theirs = dict(leaves(one)), dict(leaves(other))
    return [
        place
        for place in {**mine, **theirs}
        if place not in mine or place not in theirs or mine[place] != theirs[place]
    ]
