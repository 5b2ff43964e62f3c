"""Sections `beta` of rules that need none of their own: made of the arguments of the rule's constructor."""

import inspect
from typing import Any, ClassVar, Literal, Self, get_type_hints

from pydantic import create_model, model_validator

from betahead.beta.rule import BetaRule
from betahead.runs.section import Section


class RuleSection(Section):
    """The settings of one rule, by the names of its constructor, checked by it."""

    rule_type: ClassVar[type[BetaRule]]

    def rule(self) -> BetaRule:
        """A new rule of these settings.

        Raises:
            ConfigError: for a setting that the rule refuses.
        """
        return self.rule_type(**self.model_dump(exclude={"kind"}))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.rule()
        return self


def section_of(rule: type[BetaRule]) -> type[RuleSection]:
    """The section of a rule: `kind`, and an optional key for every argument, with its default."""
    hints = get_type_hints(rule.__init__)
    arguments = list(inspect.signature(rule).parameters.values())
    required = [argument.name for argument in arguments if argument.default is inspect.Parameter.empty]
    assert not required, f"{rule.__name__} must have defaults to be named in a config, but {required} have none"
    fields: dict[str, Any] = {argument.name: (hints[argument.name], argument.default) for argument in arguments}
    name = rule.__name__ + "Section"
    kind: Any = Literal[rule.kind]
    made: type[RuleSection] = create_model(name, __base__=RuleSection, __doc__=rule.__doc__, kind=(kind, ...), **fields)
    made.rule_type = rule
    return made
