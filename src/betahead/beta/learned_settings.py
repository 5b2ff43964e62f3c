"""The settings of a learned β beside its way of learning: defaults, ranges, and which of them apply together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from betahead.beta.head_settings import Exponent, Form, check_head, number, one_of
from betahead.beta.learning import LearningMode
from betahead.beta.nets import NetKind
from betahead.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LearnedSettings:
    """Every setting with its value; those that do not apply hold a value that has no effect."""

    net: NetKind
    form: Form
    initial_beta: float
    max_correction: float
    ppl_exponent: Exponent
    bounds: tuple[float, float]
    couple: bool
    learning_rate: float


def resolved(
    mode: LearningMode,
    *,
    net: NetKind,
    form: Form,
    initial_beta: float,
    max_correction: float | None,
    ppl_exponent: Exponent | None,
    ppl_from: str,
    ppl_tokens: str,
    bounds: tuple[float, float] | None,
    couple: bool,
    learning_rate: float | None,
) -> LearnedSettings:
    """The settings with defaults filled in, for a way of learning.

    Raises:
        ConfigError: for a value out of range, or one that the other settings leave without effect.
    """
    for key, value, choices in (
        ("net", net, get_args(NetKind)),
        ("form", form, get_args(Form)),
        ("ppl_from", ppl_from, ("policy", "reference")),
        ("ppl_tokens", ppl_tokens, ("all", "content")),
    ):
        one_of(key, value, choices)
    if not isinstance(cast("Any", couple), bool):
        raise ConfigError(f"`beta.couple` must be true or false, but is {couple!r} instead.")
    banded = form == "banded"
    _applies("max_correction", max_correction, "form: banded", banded)
    _applies("ppl_exponent", ppl_exponent, "form: banded", banded)
    _applies("learning_rate", learning_rate, "a learning.kind that learns", mode.trains)
    if not mode.trains and ppl_exponent == "learned":
        raise ConfigError("`beta.ppl_exponent` must be a number with learning.kind: none, but is 'learned' instead.")
    # A net that is not trained stays as it starts, where it gives 0 for every prompt.
    reads_ppl = ppl_exponent != 0.0 if banded else mode.trains
    reads_hidden = mode.trains and (not banded or max_correction != 0.0)
    without = "ppl_exponent: 0" if banded else "form: direct and a net that nothing trains"
    _has_effect("ppl_from", ppl_from, f"{without}, which reads no perplexity", reads_ppl or ppl_from == "policy")
    _has_effect("ppl_tokens", ppl_tokens, f"{without}, which reads no perplexity", reads_ppl or ppl_tokens == "all")
    from_policy = reads_hidden or (reads_ppl and ppl_from == "policy")
    _has_effect("couple", couple, "a beta that follows nothing of the policy", from_policy or not couple)

    if couple and not mode.couples:
        raise ConfigError(
            "`beta.couple` must be false with learning.kind: heldout, whose row has no penalty that would keep the "
            "policy from lowering it through the features, but is true instead; remove it."
        )

    beta = number("initial_beta", initial_beta, "a positive number", 0, inside=False)
    correction = 0.5 if max_correction is None else max_correction
    exponent = 1.0 if ppl_exponent is None else ppl_exponent
    held = check_head(
        net=net,
        form=form,
        initial_beta=beta,
        max_correction=correction,
        ppl_exponent=exponent,
        bounds=mode.bounds(beta) if bounds is None else bounds,
    )
    rate = 1e-3 if learning_rate is None else learning_rate
    return LearnedSettings(
        net=net,
        form=form,
        initial_beta=beta,
        max_correction=float(correction),
        ppl_exponent=exponent,
        bounds=held,
        couple=couple,
        learning_rate=number("learning_rate", rate, "a positive number", 0, inside=False),
    )


def filled_in(given: Mapping[str, Any], settings: LearnedSettings, mode: LearningMode) -> dict[str, Any]:
    """The given settings, with every None that has a default replaced by it; None stays where nothing applies."""
    applies = {
        "max_correction": settings.form == "banded",
        "ppl_exponent": settings.form == "banded",
        "bounds": True,
        "learning_rate": mode.trains,
    }
    own = {name: value for name, value in mode.settings.items() if name not in given}
    beside = {name: value for name, value in mode.settings.items() if name in given}
    defaults = {name: getattr(settings, name) for name, wanted in applies.items() if wanted} | beside
    filled = {name: defaults.get(name) if value is None else value for name, value in given.items()}
    return filled | {"learning": {"kind": mode.kind, **own} if own else mode.kind}


def _applies(key: str, value: object, needed: str, applies: bool) -> None:
    if value is not None and not applies:
        raise ConfigError(f"`beta.{key}` applies only with {needed}, but is {value!r} here; remove it.")


def _has_effect(key: str, value: object, beside: str, has: bool) -> None:
    if not has:
        raise ConfigError(f"`beta.{key}` has no effect with {beside}, but is {value!r} here; remove it.")
