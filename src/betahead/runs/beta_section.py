"""The section `beta`: a number, the settings of a learned β, or those of any other rule of the table."""

import math
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from betahead.beta.budget_settings import KLFrom
from betahead.beta.fixed import FixedBeta
from betahead.beta.head_settings import Exponent, Form
from betahead.beta.joint import PriorOn
from betahead.beta.learned import LearnedBeta
from betahead.beta.learning_kinds import Learning
from betahead.beta.nets import NetKind
from betahead.beta.perspective import Regulariser
from betahead.beta.rule import BetaRule
from betahead.beta.table import METHODS
from betahead.runs.rule_sections import RuleSection, section_of
from betahead.runs.section import Positive, Section


def _exponent(value: object) -> object:
    if value == "learned" or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)):
        return value
    raise ValueError("a finite number or `learned`")


def _bounds(value: object) -> object:
    numbers = isinstance(value, list | tuple) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in value
    )
    if value is None:
        return None
    if isinstance(value, list | tuple) and numbers and len(value) == 2:
        return tuple(value)
    raise ValueError("a list of two numbers, [low, high]")


class FixedBetaSection(Section):
    """The β of DPO: one number."""

    kind: Literal["fixed"]
    beta: Positive = 0.1

    def rule(self) -> BetaRule:
        """A new rule of this β."""
        return FixedBeta(self.beta)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.rule()
        return self


class LearningSection(Section):
    """How a learned β is learned: the settings of each kind, see `betahead.beta.learning_kinds`."""

    kind: Learning = "joint"
    regulariser: Regulariser | None = None
    rho: float | None = None
    held_out_share: float | None = None
    held_out_pairs: int | None = None
    held_out_every: int | None = None
    target_kl: float | None = None
    allocation: str | None = None
    level_rate: float | None = None
    kl_from: KLFrom | None = None
    kl_every: int | None = None
    kl_prompts: int | None = None
    kl_tokens: int | None = None


class LearnedBetaSection(Section):
    """The settings of `betahead.LearnedBeta`; None takes the default that fits the others."""

    kind: Literal["learned"]
    form: Form = "banded"
    net: NetKind = "linear"
    initial_beta: float = 0.1
    max_correction: float | None = None
    ppl_exponent: Annotated[Exponent, BeforeValidator(_exponent)] | None = None
    ppl_from: Literal["policy", "reference"] = "policy"
    ppl_tokens: Literal["all", "content"] = "all"
    bounds: Annotated[tuple[float, float] | None, BeforeValidator(_bounds)] = None
    prior_weight: float | None = None
    prior_on: PriorOn | None = None
    couple: bool = False
    learning_rate: float | None = None
    learning: LearningSection = LearningSection()

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `betahead.LearnedBeta`."""
        own = self.model_dump(exclude={"kind", "learning"})
        learning = self.learning.model_dump(exclude={"regulariser", "rho"}, exclude_none=True)
        return own | {
            "learning": learning if len(learning) > 1 else self.learning.kind,
            "regulariser": self.learning.regulariser,
            "rho": self.learning.rho,
        }

    def rule(self) -> BetaRule:
        """A new rule of these settings."""
        return LearnedBeta(**self.arguments)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        LearnedBeta(**self.arguments)
        return self


_OWN: dict[type[BetaRule], type[Section]] = {FixedBeta: FixedBetaSection, LearnedBeta: LearnedBetaSection}

if TYPE_CHECKING:
    BetaSection = FixedBetaSection | LearnedBetaSection | RuleSection
else:
    BetaSection = Annotated[
        reduce(or_, (_OWN.get(rule) or section_of(rule) for rule in METHODS)), Field(discriminator="kind")
    ]
    """The section of any rule that a config can name."""
