"""Every method by name: what it computes, reads and costs, where it comes from, and how it is asked for."""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from betahead.forward.agreed import measures_from_reference
from betahead.losses.settings import DEFAULTS as LOSS_DEFAULTS
from betahead.losses.table import LOSSES, Loss
from betahead.runs.yaml_text import to_yaml

Group = Literal["rule", "learning", "control", "loss"]
GROUPS: Mapping[Group, str] = {
    "rule": "Rules, which decide β, target and weight of every pair (beta.kind)",
    "learning": "Ways of learning β (beta.learning.kind, with beta.kind: learned)",
    "loss": "Losses (loss.kind)",
    "control": "Controls around a rule, for comparisons (in Python)",
}

_OF_PROMPTS = {Need.LOG_PPL: "log PPL of the prompt", Need.LAST_HIDDEN: "the prompt's hidden state"}
_OF_PAIRS = {
    Need.COLLISION: "the policy's whole vocabulary along both answers",
    Need.ENTROPY: "the reference's whole vocabulary along both answers",
    Need.PERTURBED: "a live reference",
}


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
        checked: how far the source was read: `code`, `paper` or `abstract`.
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
    return [*map(_rule, METHODS), *_learning(), *map(_loss, LOSSES), *map(_control, CONTROLS)]


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: with the nearest name, when there is none.
    """
    known = {method.name: method for method in methods()}
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
        needs=", ".join(_needs(made)),
        where=f"{rule.__module__}.{rule.__qualname__}",
        defaults=defaults,
        refuses=tuple(_refuses(made)),
        yaml=to_yaml({"beta": section} | ({"reference": {"cache": "live"}} if live else {})),
        python=python,
    )


def _needs(rule: BetaRule) -> Iterator[str]:
    yield from (f"column {name}" for name in sorted(rule.columns))
    for need, words in (_OF_PROMPTS | _OF_PAIRS).items():
        if need in rule.needs:
            yield words
    if rule.margin_of == "policy":
        yield "means per token, not sums"


def _other_than(links: Iterable[str]) -> str:
    return f"loss.kind other than {', '.join(sorted(links))}, but for sft beside it"


def _refuses(rule: BetaRule) -> Iterator[str]:
    if rule.links is not None:
        yield _other_than(rule.links)
    if rule.links is None and rule.weighs:
        yield "losses in which the pairs of a pass act on one another"
    if rule.links is None and rule.moves_target:
        yield "losses of both log-ratios apart, which have no place for a target; simpo, which has its own"
    if Need.PERTURBED in rule.of_reference:
        yield "reference.cache other than live; data with the reference's columns"
    if measures_from_reference(rule):
        yield "losses without a reference"
    if rule.reads == "batch":
        yield "train.max_batch_tokens, which would cut the batch"
    for name in sorted(rule.columns):
        yield f"data without a {'positive' if name in rule.positive else 'finite'} {name} in every row"


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
            refuses=(_other_than(made.links),) if made.links else (),
            yaml=to_yaml({"beta": {"kind": "learned", "learning": said}}),
            python=f"from betahead import LearnedBeta\n\nDPOTrainer(…, beta=LearnedBeta(learning={call}))",
        )


def _loss(name: str) -> Method:
    row = LOSSES[name]
    defaults = {
        key: LOSS_DEFAULTS[key] for key in (*(("label_smoothing",) if row.smooths != "no" else ()), *row.settings)
    }
    said: dict[str, Any] = {"label_smoothing": _LEAST_SMOOTHING} if row.smooths == "must" else {}
    call = ", ".join(f"{key}={value!r}" for key, value in {"loss_type": name, **said}.items())
    _, title, _ = row.source.split(", ", 2)
    return Method(
        name=name,
        group="loss",
        title=title,
        formula=row.formula,
        reads=row.reads,
        needs=", ".join(_needs_of_loss(row)),
        cost="nothing",
        source=row.source,
        deviates=_deviates(row.loss),
        checked="code",
        where=f"{row.loss.__module__}.{row.loss.__name__}",
        defaults=defaults,
        refuses=tuple(_refuses_of_loss(row)),
        yaml=to_yaml({"loss": {"kind": name, **said}}),
        python=f"DPOTrainer(…, args=DPOConfig({call}))",
    )


def _needs_of_loss(row: Loss) -> Iterator[str]:
    if row.per_token:
        yield "means per token, not sums"
    if not row.needs_reference:
        yield "no reference"
    if row.smooths == "must":
        yield "loss.label_smoothing above 0"
    if row.has_shift:
        yield "the running mean of the rewards"
    if row.on_batch and row.reads != "chosen answer":
        yield "the pairs of a pass together"


def _refuses_of_loss(row: Loss) -> Iterator[str]:
    if row.smooths == "no":
        yield "loss.label_smoothing"
    if not row.other_divergences:
        yield "loss.f_divergence_type other than reverse_kl"
    if row.on_batch:
        yield "train.max_batch_tokens"
    if row.reads in ("log-ratios", "margins of both models"):
        yield "rules whose margin is the policy's own"
    if row.reads == "log-ratios":
        yield "rules that move a target"


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
        refuses=(_other_than({"sigmoid"}),),
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
