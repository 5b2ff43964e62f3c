"""Methods of tabular worlds made from the package's tables: every loss, every rule that can be read here, and controls.

They are apart from `tabular_method_table`, so that a plan's hash covers those of them that it names and no others.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args

from betahead.beta.control_levels import NoiseBeta
from betahead.beta.fixed import FixedBeta
from betahead.beta.learned import LearnedBeta
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.losses.objective import Objective, objective_of
from betahead.losses.table import LOSSES, Loss
from betahead.worlds.outcome import WorldMethod
from betahead.worlds.registered import CONTROL_RULES, SMOOTHING, controls_of, level_of
from betahead.worlds.tabular_controls import ControlKind
from betahead.worlds.tabular_learning import HeldBeta
from betahead.worlds.tabular_method import Planted, Setting, TabularMethod, Values
from betahead.worlds.tabular_method_table import TABULAR_METHODS
from betahead.worlds.tabular_oracles import Oracle
from betahead.worlds.tabular_registered import READABLE, RegisteredRule
from betahead.worlds.tabular_settings import TabularSettings
from betahead.worlds.tabular_variants import controlled

# Defaults for language models suit longer runs, and answers that can go further from the reference.
_SETTINGS: Mapping[str, Mapping[str, float]] = {
    "quantile_controller": {"warmup": 12},
    "kl_controller": {"target_kl": 1.0},
}
# With answers of one token they are what `fixed` descends.
_DPO = ("sigmoid", "sigmoid_norm")


def _fixed(settings: TabularSettings, oracle: Oracle) -> str | None:
    return "fixed"


def _its_own(settings: TabularSettings, oracle: Oracle) -> str | None:
    return None


def _one_beta(beta: float, seed: int) -> BetaRule:
    return FixedBeta(beta)


def _of_loss(name: str, row: Loss) -> TabularMethod:
    """One β with another loss: a link by the margins alone, any other by what is said of both answers."""
    smoothing = SMOOTHING.get(name, 0.0)
    of_margin = row.reads == "margin" and row.needs_reference and not row.on_batch

    def learning(values: Values, planted: Planted) -> Setting:
        if of_margin:
            return HeldBeta(loss=name, label_smoothing=smoothing)
        objective = objective_of(name, label_smoothing=smoothing)
        return RegisteredRule(rule=_one_beta, objective=objective)

    summary = f"one β, {row.formula}" + (f", e = {smoothing:g}" if smoothing else "")
    return TabularMethod(
        described=WorldMethod(name=f"loss:{name}", parent=None, placebo=None, axes=(), summary=summary),
        learning=learning,
        settings={"label_smoothing": smoothing, **{key: getattr(Objective().settings, key) for key in row.settings}},
        same_as=_fixed if name in _DPO else _its_own,
    )


def _of_rule(kind: type[BetaRule]) -> Iterator[TabularMethod]:
    """A rule of the package with its own defaults, and its controls; draws are those of the run's seed."""
    level, own = level_of(kind), dict(_SETTINGS.get(kind.kind, {}))
    said = {name: value for name, value in kind(**own).settings.items() if name not in (level, "seed")}
    draws = "seed" in kind().settings

    def seeded(beta: float, seed: int) -> BetaRule:
        given: dict[str, Any] = {**own, level: beta, **({"seed": seed} if draws else {})}
        return kind(**given)

    def plain(values: Values, planted: Planted) -> Setting:
        return RegisteredRule(rule=seeded, objective=Objective())

    summary = f"{kind.card.title}: {kind.card.formula}"
    described = WorldMethod(name=f"rule:{kind.kind}", parent="fixed", placebo=None, axes=(), summary=summary)
    yield TabularMethod(described=described, learning=plain, of_batch=True, settings=said)
    for name in controls_of(kind.kind):
        control, words = CONTROL_RULES[name]

        def around(beta: float, seed: int, control: type[BetaRule] = control) -> BetaRule:
            of = seeded(beta, seed)
            return NoiseBeta(of, seed) if control is NoiseBeta else control(of)

        def learning(values: Values, planted: Planted, around: Any = around) -> Setting:
            return RegisteredRule(rule=around, objective=Objective())

        yield TabularMethod(described=described.control(name, words), learning=learning, of_batch=True, settings=said)


def _readable(kind: type[BetaRule]) -> bool:
    """Whether a rule has here all that it reads, and no method with a name of its own."""
    return kind not in (FixedBeta, LearnedBeta) and not kind.columns and kind().needs <= READABLE


def _table() -> dict[str, TabularMethod]:
    kinds: tuple[ControlKind, ...] = get_args(ControlKind)
    early = [
        method
        for name, method in TABULAR_METHODS.items()
        if name.startswith("early:") and TABULAR_METHODS[name.removeprefix("early:")].described.placebo is not None
    ]
    methods = (
        *(_of_loss(name, row) for name, row in LOSSES.items()),
        *(method for kind in METHODS if _readable(kind) for method in _of_rule(kind)),
        *(controlled(kind, method) for method in early for kind in kinds),
    )
    return {method.described.name: method for method in methods}


REGISTERED_METHODS: Mapping[str, TabularMethod] = MappingProxyType(_table())
