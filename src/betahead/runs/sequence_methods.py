"""The methods of the sequence world: how each sets β, and what it changes about the training pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from betahead.beta.fixed import FixedBeta
from betahead.beta.given import GivenBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.losses.table import LOSSES
from betahead.runs.sequence_lessons import Lessons
from betahead.worlds.outcome import Axis, WorldMethod
from betahead.worlds.registered import CONTROL_RULES, SEQUENCE_COLUMNS, SMOOTHING, controls_of, level_of
from betahead.worlds.world import Topic

SHARED_AXES = (Axis(name="learning_rate", low=5e-5, high=1e-3), Axis(name="beta", low=0.03, high=1.0))
"""What every method is tuned over; `beta` is where β starts."""

Values = Mapping[str, float]
LessonsOf = Callable[[Values, Sequence[Topic]], Lessons]

_RATE = Axis(name="beta_learning_rate", low=1e-3, high=2e-2)
_RHO = Axis(name="rho", low=0.03, high=0.3)
_NOISY_OVER_CLEAN = Axis(name="noisy_over_clean", low=1 / 16, high=16.0)
_KEPT_NOISE = Axis(name="kept_noise", low=0.01, high=0.5, log=False)


def _as_they_are(values: Values, topics: Sequence[Topic]) -> Lessons:
    return Lessons()


@dataclass(frozen=True, kw_only=True)
class SequenceMethod:
    """A row of the table of methods.

    Args:
        described: what a plan may know of it.
        rule: decides β.
        lessons: what it changes about the training pairs, given the truth about topics.
        loss: a name of `betahead.losses.table.LOSSES`.
        label_smoothing: of the loss.
        settings: of the rule, other than its defaults and its β.
        same_as: the method whose very runs these are; None where they are its own.
    """

    described: WorldMethod
    rule: Callable[[Values], BetaRule]
    lessons: LessonsOf = _as_they_are
    loss: str = "sigmoid"
    label_smoothing: float = 0.0
    settings: Mapping[str, int] = field(default_factory=dict[str, int])
    same_as: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """What the row declares, as plain values; the code behind it is named by the digest of the code."""
        own = ("loss", "label_smoothing", "same_as")
        return {**asdict(self.described), **{name: getattr(self, name) for name in own}, "settings": {**self.settings}}


def _fixed(values: Values) -> BetaRule:
    return FixedBeta(values["beta"])


def _quadratic(values: Values) -> BetaRule:
    # The head as it comes, banded at p = 1: in so few steps a `direct` head learns a level and no allocation.
    return LearnedBeta(
        initial_beta=values["beta"],
        ppl_tokens="content",
        learning="perspective",
        rho=values["rho"],
        learning_rate=values["beta_learning_rate"],
    )


def _joint(values: Values) -> BetaRule:
    return LearnedBeta(
        initial_beta=values["beta"],
        ppl_tokens="content",
        learning="joint",
        learning_rate=values["beta_learning_rate"],
    )


def _given(values: Values) -> BetaRule:
    return GivenBeta(values["beta"])


def _without_flips(values: Values, topics: Sequence[Topic]) -> Lessons:
    return Lessons(clean=True)


def _by_noise(values: Values, topics: Sequence[Topic]) -> Lessons:
    """β of a topic ∝ ratio^(its noise over the most), with a geometric mean of 1 over topics."""
    noise = np.array([topic.label_noise for topic in topics])
    share = noise / noise.max()
    relative = values["noisy_over_clean"] ** (share - share.mean())
    return Lessons(relative_beta={topic.name: float(beta) for topic, beta in zip(topics, relative, strict=True)})


def _less_noise(values: Values, topics: Sequence[Topic]) -> Lessons:
    dropped = [topic.name for topic in topics if topic.label_noise > values["kept_noise"]]
    return Lessons(dropped=frozenset(dropped))


def _described(name: str, summary: str, axes: tuple[Axis, ...] = (), **more: Any) -> WorldMethod:
    given: dict[str, Any] = {"parent": None, "placebo": None, **more}
    return WorldMethod(name=name, axes=axes, summary=summary, **given)


_VARIED = (
    SequenceMethod(
        described=_described(
            "joint_plus",
            "β ∝ log PPL · f(hidden state), learned by joint descent",
            (_RATE,),
            parent="fixed",
            placebo="permuted:joint_plus",
        ),
        rule=_joint,
    ),
    SequenceMethod(
        described=_described(
            "perspective_quadratic",
            "β ∝ log PPL · f(hidden state), learned by perspective, R = ρτ² − τ log 2",
            (_RATE, _RHO),
            parent="fixed",
            placebo="permuted:perspective_quadratic",
        ),
        rule=_quadratic,
    ),
    SequenceMethod(
        described=_described(
            "oracle",
            "β of a topic by the noise planted in it; how much, and which way, the search finds with the truth in hand",
            (_NOISY_OVER_CLEAN,),
            parent="fixed",
            placebo="permuted:oracle",
            needs_truth=True,
        ),
        rule=_given,
        lessons=_by_noise,
    ),
)
_ONE_BETA = (
    SequenceMethod(described=_described("fixed", "one β for all prompts"), rule=_fixed),
    SequenceMethod(
        described=_described(
            "weight_oracle",
            "one β; pairs of topics with more noise than a limit are dropped, which the search finds",
            (_KEPT_NOISE,),
            parent="fixed",
            needs_truth=True,
        ),
        rule=_fixed,
        lessons=_less_noise,
    ),
    SequenceMethod(
        described=_described("clean_labels", "one β, on labels before noise turned them round", needs_truth=True),
        rule=_fixed,
        lessons=_without_flips,
    ),
    SequenceMethod(
        described=_described("renamed", "fixed under another name: a difference is false"), rule=_fixed, same_as="fixed"
    ),
)


def _controlled(kind: str, method: SequenceMethod) -> SequenceMethod:
    """A control of a method: its β reaches the policy changed."""
    control, summary = CONTROL_RULES[kind]

    def rule(values: Values) -> BetaRule:
        return control(method.rule(values))

    return replace(method, described=method.described.control(kind, summary), rule=rule)


# Defaults for runs of thousands of steps, which would not act in the 120 of this world, or hardly.
_SETTINGS: Mapping[str, Mapping[str, int]] = {"quantile_controller": {"warmup": 12}, "kl_controller": {"kl_every": 5}}


def _registered(kind: type[BetaRule]) -> SequenceMethod:
    """A rule that a config can name, with its own defaults where these suit; `beta` is where its β starts."""
    level = level_of(kind)
    card = kind.card
    settings = _SETTINGS.get(kind.kind, {})
    return SequenceMethod(
        described=_described(f"rule:{kind.kind}", f"{card.title}: {card.formula}", parent="fixed"),
        rule=lambda values: kind(**{level: values["beta"], **settings}),
        settings=settings,
    )


# Two have methods with axes above; others read a column that this world does not have, or have another margin than
# that to the reference, to which its measures are.
_RULES = [
    kind
    for kind in METHODS
    if kind not in (FixedBeta, LearnedBeta) and kind.columns <= SEQUENCE_COLUMNS and kind().margin_of == "reference"
]
_LOSSES = [
    SequenceMethod(
        described=_described(
            f"loss:{name}",
            f"one β, {row.formula}" + (f", e = {SMOOTHING[name]:g}" if name in SMOOTHING else ""),
        ),
        rule=_fixed,
        loss=name,
        label_smoothing=SMOOTHING.get(name, 0.0),
    )
    for name, row in LOSSES.items()
    if name != "sigmoid" and row.needs_reference
]
_METHODS = (
    *_ONE_BETA,
    *_VARIED,
    *map(_registered, _RULES),
    *_LOSSES,
    *(_controlled(kind, method) for method in _VARIED for kind in CONTROL_RULES),
)
_CONTROLLED_RULES = [_controlled(name, _registered(kind)) for kind in _RULES for name in controls_of(kind.kind)]
FINGERPRINTED: Mapping[str, SequenceMethod] = MappingProxyType({m.described.name: m for m in _METHODS})
"""Methods that every plan's hash covers; of the others it covers those that the plan names."""
SEQUENCE_METHODS: Mapping[str, SequenceMethod] = MappingProxyType(
    {**FINGERPRINTED, **{m.described.name: m for m in _CONTROLLED_RULES}}
)
