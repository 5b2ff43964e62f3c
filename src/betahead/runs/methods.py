"""Every method by name: what it computes, reads and costs, where it comes from, and how it is asked for."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from betahead.beta.card import MethodCard
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.learning_cards import LEARNING_CARDS
from betahead.beta.learning_kinds import LEARNING, learning_named
from betahead.beta.rule import BetaRule, Need
from betahead.beta.table import CONTROLS, METHODS
from betahead.errors import ConfigError
from betahead.losses.modifiers import MODIFIERS
from betahead.losses.settings import DEFAULTS as LOSS_DEFAULTS
from betahead.losses.table import LOSSES
from betahead.runs.method_limits import (
    needs_of_loss,
    needs_of_rule,
    other_than,
    refused_with_learning,
    refused_with_loss,
    refused_with_rule,
)
from betahead.runs.yaml_text import to_yaml

Group = Literal["rule", "learning", "loss", "modifier", "control"]
GROUPS: Mapping[Group, str] = {
    "rule": "Rules, which decide β, target and weight of every pair (beta.kind)",
    "learning": "Ways of learning β (beta.learning.kind, with beta.kind: learned)",
    "loss": "Losses (loss.kind)",
    "modifier": "Modifiers of losses (keys of loss)",
    "control": "Controls around a rule, for comparisons (in Python)",
}

_ALSO: Mapping[str, str] = {
    "dpo": "sigmoid",
    "rdpo": "robust",
    "sppo": "sppo_hard",
    "apo": "apo_zero",
    "aps": "adaptive_scaling",
    "ada_dpo": "adaptive_scaling",
}
"""Names that authors use and that are no `kind`."""

_LEAST_SMOOTHING = 1e-3
_MUST_SAY: Mapping[str, Mapping[str, Any]] = {"budget": {"target_kl": 1.0}}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method and what a page says of it.

    Args:
        name: its `kind`.
        group: which table it is a row of.
        title: the name its authors use.
        formula: a line for every equation.
        reads: what decides about a pair.
        needs: beyond the two log-probabilities of policy and reference, "" for nothing.
        cost: beyond DPO.
        source: authors, year, link.
        deviates: from the source, "" for nothing.
        checked: what of the source was read: its authors' `code`, that of another package (`TRL's code`), the `paper`,
            its `abstract`, or "" where it is this package.
        where: the class or function, `module.name`.
        defaults: its settings.
        refuses: combinations that are an error, each as a clause.
        yaml: how a configuration says it, "" where it cannot.
        python: how a program says it.
    """

    name: str
    group: Group
    title: str
    formula: str
    reads: str
    needs: str
    cost: str
    source: str
    deviates: str
    checked: str
    where: str
    defaults: Mapping[str, Any]
    refuses: tuple[str, ...]
    yaml: str
    python: str

    def to_dict(self) -> dict[str, Any]:
        """The method as plain values, for JSON."""
        return asdict(self)


def methods() -> list[Method]:
    """All of them, in the order of `GROUPS` and of their tables."""
    return [
        *map(_rule, METHODS),
        *_learning(),
        *map(_loss, LOSSES),
        *map(_modifier, MODIFIERS),
        *map(_control, CONTROLS),
    ]


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: with the nearest name, when there is none.
    """
    known = {method.name: method for method in methods()}
    known |= {alias: known[key] for key, row in MODIFIERS.items() for alias in row.aliases}
    known |= {alias: known[key] for alias, key in _ALSO.items()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    remedy = f"did you mean {near[0]}?" if near else "`betahead methods` shows them all."
    raise ConfigError(f"NAME must be the name of a method, but is {name!r} instead; {remedy}")


def _rule(rule: type[BetaRule]) -> Method:
    made = rule()
    if isinstance(made, LearnedBeta):
        made.build(1, seed=0)
    defaults = dict(made.settings)
    call = f"{rule.__name__}({', '.join(f'{name}={value!r}' for name, value in _plain(defaults).items())})"
    live = Need.PERTURBED in made.of_reference
    also = ", args=DPOConfig(precompute_ref_log_probs=False)" if live else ""
    python = f"from {rule.__module__} import {rule.__name__}\n\nDPOTrainer(…, beta={call}{also})"
    if rule is FixedBeta:
        python = f"DPOTrainer(…, args=DPOConfig(beta={defaults['beta']!r}))"
    elif rule is LearnedBeta:
        python = "from betahead import LearnedBeta\n\nDPOTrainer(…, beta=LearnedBeta(net='mlp'))"
    section = {"kind": rule.kind} | (_plain(defaults) if rule is not LearnedBeta else {"net": "mlp"})
    return _method(
        "rule",
        rule.kind,
        rule.card,
        reads=rule.reads,
        needs=", ".join(needs_of_rule(made)),
        where=f"{rule.__module__}.{rule.__qualname__}",
        defaults=defaults,
        refuses=(*refused_with_rule(made), *rule.card.refuses),
        yaml=to_yaml({"beta": section} | ({"reference": {"cache": "live"}} if live else {})),
        python=python,
    )


def _learning() -> Iterator[Method]:
    for kind, mode in LEARNING.items():
        said: dict[str, Any] = {"kind": kind, **_MUST_SAY.get(kind, {})}
        made = learning_named(said)
        call = repr(kind if len(said) == 1 else said)
        yield _method(
            "learning",
            kind,
            LEARNING_CARDS[kind],
            reads="prompt",
            needs=", ".join(f"{name} is said" for name in said if name != "kind"),
            where=f"{mode.__module__}.{mode.__qualname__}",
            defaults={name: value for name, value in made.settings.items() if name not in said and value is not None},
            refuses=tuple(refused_with_learning(made)),
            yaml=to_yaml({"beta": {"kind": "learned", "learning": said}}),
            python=f"from betahead import LearnedBeta\n\nDPOTrainer(…, beta=LearnedBeta(learning={call}))",
        )


def _loss(name: str) -> Method:
    row = LOSSES[name]
    defaults = {
        key: LOSS_DEFAULTS[key] for key in (*(("label_smoothing",) if row.smooths != "no" else ()), *row.settings)
    }
    said: dict[str, Any] = {"label_smoothing": _LEAST_SMOOTHING} if row.smooths == "must" else {}
    beta = {} if row.beta is None else {"beta": row.beta}
    _, title, _ = row.source.split(", ", 2)
    return Method(
        name=name,
        group="loss",
        title=title,
        formula=row.formula,
        reads=row.reads,
        needs=", ".join(needs_of_loss(row)),
        cost="nothing",
        source=row.source,
        deviates=_deviates(row.loss),
        checked=row.checked,
        where=f"{row.loss.__module__}.{row.loss.__name__}",
        defaults=defaults,
        refuses=tuple(refused_with_loss(row)),
        yaml=to_yaml(({"beta": {"kind": "fixed", **beta}} if beta else {}) | {"loss": {"kind": name, **said}}),
        python=_with_config({"loss_type": name, **said, **beta}),
    )


def _modifier(name: str) -> Method:
    row = MODIFIERS[name]
    said = {row.in_trl or key: value for key, value in row.said.items() if key != "kind"}
    return Method(
        name=name,
        group="modifier",
        title=row.title,
        formula=row.formula,
        reads=row.reads,
        needs="",
        cost="nothing",
        source=row.source,
        deviates=row.deviates,
        checked=row.checked,
        where=f"{row.where.__module__}.{row.where.__name__}",
        defaults=row.defaults,
        refuses=row.refuses,
        yaml=to_yaml({"loss": row.said}),
        python=_with_config({"loss_type": row.said["kind"], **said}),
    )


def _with_config(said: Mapping[str, Any]) -> str:
    return f"DPOTrainer(…, args=DPOConfig({', '.join(f'{key}={value!r}' for key, value in said.items())}))"


def _deviates(function: Callable[..., Any]) -> str:
    """The paragraph of that name in the docstring of a loss."""
    found = re.search(r"^Deviates:\n((?:    .*\n?)+)", inspect.getdoc(function) or "", re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def _control(control: type[BetaRule]) -> Method:
    return _method(
        "control",
        control.kind,
        control.card,
        reads="batch",
        needs="those of the rule inside",
        where=f"{control.__module__}.{control.__qualname__}",
        defaults={},
        refuses=(other_than({"sigmoid"}),),
        yaml="",
        python=(
            f"from betahead import LearnedBeta\nfrom {control.__module__} import {control.__name__}\n\n"
            f"DPOTrainer(…, beta={control.__name__}(of=LearnedBeta()))"
        ),
    )


def _method(group: Group, name: str, card: MethodCard, **more: Any) -> Method:
    return Method(
        name=name,
        group=group,
        title=card.title,
        formula=card.formula,
        cost=card.cost,
        source=card.source,
        deviates=card.deviates,
        checked=card.checked,
        **more,
    )


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}
